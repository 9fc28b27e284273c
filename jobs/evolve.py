"""evolve(job, event): the next snapshot. Folding it over a journal gives exactly the snapshot that is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from callsheet.jobs import events as e
from callsheet.jobs import webhooks
from callsheet.jobs.graph import FETCH
from callsheet.jobs.job import Job, JobError, StageState
from callsheet.jobs.states import ABSENT, next_stage_status, next_status

MOVING = (e.StageProgressed, e.StageSucceeded, e.StageExpanded, e.JobRetried)  # what the job's progress depends on


def evolve(job: Job | None, event: e.Event) -> Job:
    """The snapshot after one event, which must be the next one and in the table."""
    status = next_status(job.status if job else ABSENT, type(event.data))
    if job is None:
        return _submitted(event, event.data)
    if event.seq != job.seq + 1:
        raise AssertionError(f"event {event.seq} does not follow {job.seq}")
    job = _evolve_job(job, event) if event.stage is None else _evolve_stage(job, event, event.stage)
    # A stage that runs again starts from nothing, but what a client was shown never falls within an attempt.
    progress = max(job.progress, overall_progress(job)) if isinstance(event.data, MOVING) else job.progress
    return replace(job, status=status, seq=event.seq, updated_at=event.at, progress=progress)


def overall_progress(job: Job) -> float:
    """The weighted mean of the stages' progress, 0..1; a fanned-out stage shares its weight among its instances."""
    total = sum(spec.weight for spec in job.graph)
    done = 0.0
    for spec in job.graph:
        instances = job.instances(spec.name)
        done += spec.weight * sum(s.progress for s in instances) / max(1, len(instances))
    return min(1.0, round(done / total, 6))


def _submitted(event: e.Event, data: Any) -> Job:
    return Job(
        id=data.id,
        tenant=data.tenant,
        pipeline=data.pipeline,
        params=data.params,
        graph=data.graph,
        input=data.input,
        fingerprint=data.fingerprint,
        callback_url=data.callback_url,
        callback_own_secret=data.callback_own_secret,
        origin=data.origin,
        status="queued",
        attempt=1,
        seq=event.seq,
        stages={spec.name: StageState(spec.name, spec.name) for spec in data.graph},
        created_at=event.at,
        updated_at=event.at,
    )


def _evolve_job(job: Job, event: e.Event) -> Job:
    match event.data:
        case e.JobCompleted(expires_at=at):
            job = replace(job, progress=1.0, expires_at=at)  # also if a stage that may fail stopped short
            return webhooks.begun(job, event)
        case e.JobCancelled(expires_at=at):
            return webhooks.begun(replace(job, expires_at=at), event)
        case e.JobFailed() as data:
            error = JobError(data.code, data.message, data.failed_stage, data.retryable)
            return webhooks.begun(replace(job, error=error, expires_at=data.expires_at), event)
        case e.JobRetried() as data:
            stages = dict(_reset(job, frozenset(data.reset)))
            job = replace(job, attempt=job.attempt + 1, params=data.params, stages=stages)
            return replace(job, progress=0.0, error=None, expires_at=None)
        case e.WebhookDelivered() | e.WebhookFailed() | e.WebhookGivenUp() | e.WebhookRequested():
            return webhooks.evolved(job, event)
        case _:
            return job


def _reset(job: Job, names: frozenset[str]) -> Iterable[tuple[str, StageState]]:
    """The stages of the next attempt: those named start afresh, and a fan-out whose source does is folded up again."""
    for spec in job.graph:
        folds = spec.each is not None and spec.each in names
        for state in [StageState(spec.name, spec.name)] if folds else job.instances(spec.name):
            fresh = StageState(state.name, state.spec, item=state.item)
            yield state.name, fresh if state.name in names else state


def _evolve_stage(job: Job, event: e.Event, name: str) -> Job:
    state = job.stages[name]
    state = replace(state, status=next_stage_status(state.status, event.data))
    if isinstance(event.data, e.StageExpanded):
        return replace(job, stages=_expanded(job, state, event.data.items))
    state = _STAGE[type(event.data)](state, event.data, event)
    job = replace(job, stages={**job.stages, name: state})
    if isinstance(event.data, e.StageSucceeded) and event.data.input:
        fetched = name == FETCH and job.input.source_url is not None
        job = replace(job, input=replace(job.input, **_facts(event.data.input, fetched=fetched)))
    return job


def _facts(found: dict[str, Any], *, fetched: bool) -> dict[str, Any]:
    """What the job shows of its input; anything of another type would make a snapshot that cannot be read back."""
    kinds: dict[str, tuple[type, ...]] = {"duration": (int, float), "media_type": (str,)}
    if fetched:
        kinds |= {"bytes": (int,), "sha256": (str,), "filename": (str,)}
    return {name: found[name] for name, kind in kinds.items() if type(found.get(name)) in kind}


def _expanded(job: Job, folded: StageState, items: tuple[Any, ...]) -> dict[str, StageState]:
    """The stages with the instances in the place of the folded one; it stays, skipped, when there are none."""
    name = folded.name
    instances = {f"{name}:{i}": StageState(f"{name}:{i}", name, item=item) for i, item in enumerate(items)}
    instances = instances or {name: replace(folded, progress=1.0, attempt=job.attempt)}
    stages: dict[str, StageState] = {}
    for key, state in job.stages.items():
        stages |= instances if key == name else {key: state}
    return stages


def _dispatched(state: StageState, _data: e.StageDispatched, event: e.Event) -> StageState:
    return replace(
        state,
        attempt=event.attempt,
        token=event.seq,
        heard=0,
        retry_at=None,
        error=None,
        started_at=None,
        ended_at=None,
    )


def _started(state: StageState, data: e.StageStarted, event: e.Event) -> StageState:
    return replace(state, worker=data.worker, started_at=event.at)


def _progressed(state: StageState, data: e.StageProgressed, _event: e.Event) -> StageState:
    return replace(state, progress=max(state.progress, data.progress), message=data.message, heard=data.n)


def _logged(state: StageState, data: e.StageLogged, _event: e.Event) -> StageState:
    return replace(state, heard=data.n, logged=state.logged + len(data.lines))


def _partial(state: StageState, data: e.PartialResult, _event: e.Event) -> StageState:
    return replace(state, heard=data.n)


def _succeeded(state: StageState, data: e.StageSucceeded, event: e.Event) -> StageState:
    return replace(
        state,
        progress=1.0,
        ended_at=event.at,
        outputs=data.outputs,
        data=data.data,
        result=data.result,
        items=data.items,
    )


def _failed(state: StageState, data: e.StageFailed, event: e.Event) -> StageState:
    error = JobError(data.code, data.message, state.name, data.retryable)
    tries, losses = state.tries + (not data.lost), state.losses + data.lost
    return replace(state, ended_at=event.at, error=error, tries=tries, losses=losses)


def _retry_scheduled(state: StageState, data: e.StageRetryScheduled, _event: e.Event) -> StageState:
    return replace(state, retry_at=data.retry_at)


def _stopped(state: StageState, _data: e.StageStopped, event: e.Event) -> StageState:
    return replace(state, ended_at=event.at)


_STAGE: dict[type[Any], Callable[[StageState, Any, e.Event], StageState]] = {
    e.StageDispatched: _dispatched,
    e.StageStarted: _started,
    e.StageProgressed: _progressed,
    e.StageLogged: _logged,
    e.PartialResult: _partial,
    e.StageSucceeded: _succeeded,
    e.StageFailed: _failed,
    e.StageRetryScheduled: _retry_scheduled,
    e.StageStopped: _stopped,
}
