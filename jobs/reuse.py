"""What a stage's outputs are made from, as one digest: equal digests, equal outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import Job, StageState

_encode = msgspec.json.Encoder(order="deterministic").encode


def reuse_key(job: Job, stage: str) -> str | None:
    """The digest (SHA-256, hex) of all that this stage's outputs depend on; None if they may not serve again.

    That is: the code and its version, the params it uses, the bytes of the input and their type, the item of a fan-out,
    and what every stage before it has given. Not the input's name, nor when and for whom: two uploads of one file are
    one input.
    """
    state = job.stages[stage]
    spec = job.spec(state)
    if not spec.reuse or not job.input.sha256:
        return None
    params = {name: value for name, value in job.params.items() if spec.uses is None or name in spec.uses}
    before = [_given(s) for s in stages_before(job, spec)]
    made_from = (spec.reuse, params, job.input.sha256, job.input.media_type, state.item, before)
    return hashlib.sha256(_encode(made_from)).hexdigest()


def stages_before(job: Job, spec: StageSpec) -> Iterable[StageState]:
    """The stages that this one needs, and those that they need, as far as they have succeeded."""
    needed: set[str] = set(spec.needs)
    for earlier in reversed(job.graph):
        if earlier.name in needed:
            needed.update(earlier.needs)
    return [s for s in job.stages.values() if s.spec in needed and s.status == "succeeded"]


def _given(state: StageState) -> tuple[Any, ...]:
    return state.name, [(ref.name, ref.sha256) for ref in state.outputs], state.data, state.items
