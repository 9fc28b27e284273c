"""Inputs that come from an address: whether it may be used at all, and the stage that fetches it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from callsheet.actors.stores.store import input_file
from callsheet.jobs.graph import FETCH, GraphError, StageSpec, check_graph
from callsheet.jobs.job import FileRef, Job
from callsheet.media.addresses import ForbiddenUrlError, check_url
from callsheet.pipelines.fetch import pipeline as fetching


def why_forbidden(url: str, allowed: Collection[str]) -> str | None:
    """What is wrong with a URL by its form alone (`allowed`: exact `host:port` that may be anywhere), else None.

    Where its name leads is looked at when it is connected to, each time.
    """
    try:
        check_url(url, allowed)
    except ForbiddenUrlError as error:
        return error.why
    return None


def with_fetch(graph: tuple[StageSpec, ...]) -> tuple[StageSpec, ...] | None:
    """The graph of a job whose input has to be fetched first; None where it has no place for that stage."""
    rest = (stage if stage.needs else replace(stage, needs=(FETCH,)) for stage in graph)
    whole = (*fetching.specs, *rest)
    try:
        check_graph(whole)
    except GraphError:
        return None
    return whole


def input_of(job: Job) -> FileRef:
    """The input of a job as a file in the store: its upload, or what the stage before the others has fetched."""
    fetched = job.stages[FETCH].outputs if job.input.source_url is not None else ()
    return fetched[0] if fetched else input_file(job.input)


def what_runs(job: Job, stage: str) -> tuple[str, dict[str, Any]]:
    """The pipeline that a stage of the job is found in, and the params it is given."""
    if stage == FETCH and job.input.source_url is not None:
        return fetching.name, {"source_url": job.input.source_url}
    return job.pipeline, job.params
