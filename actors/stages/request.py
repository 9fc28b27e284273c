"""What a stage child is asked to run: the stage, and what it may see of its job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from callsheet.actors.stages.child_wire import Request
from callsheet.actors.stages.sources import input_of, what_runs
from callsheet.actors.stores.store import Place
from callsheet.jobs.job import FileRef, Job
from callsheet.jobs.reuse import stages_before


def request_of(job: Job, stage: str, folder: Path, locate: Callable[[FileRef], Place], ledger: str = "") -> Request:
    """The request to run a stage in a folder: of the stages before it, it sees those that it needs and that succeeded.

    `locate`: where a file of the job can be read. `ledger`: the folder of the job's purchases.
    """
    state = job.stages[stage]
    done = stages_before(job, job.spec(state))
    pipeline, params = what_runs(job, stage)
    return Request(
        pipeline=pipeline,
        stage=stage,
        params=params,
        folder=str(folder),
        input=locate(input_of(job)),
        filename=job.input.filename,
        media_type=job.input.media_type,
        bytes=job.input.bytes,
        item=state.item,
        files={s.name: {r.name: locate(r) for r in s.outputs} for s in done},
        data={s.name: s.data for s in done},
        instances={spec.name: tuple(s.name for s in done if s.spec == spec.name) for spec in job.graph},
        ledger=ledger,
    )
