"""decide(job, message, now): what follows from a message. Pure and total: no clock, no I/O, no randomness."""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import replace

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs import webhooks
from callsheet.jobs.draft import Decision, Draft, Outcome, Policy, rfc3339
from callsheet.jobs.effects import Erase, KeepSecret, RemoveFiles
from callsheet.jobs.evolve import evolve
from callsheet.jobs.graph import GraphError, check_graph
from callsheet.jobs.job import TERMINAL, Job
from callsheet.jobs.reports import RULES, timer_fired
from callsheet.jobs.states import ABSENT, EXISTS, REFUSALS, STALE, UNKNOWN

PRECONDITION = "precondition_failed"
UNKNOWN_STAGE = "unknown_stage"
INVALID_GRAPH = "invalid_graph"
_DEFAULT = Policy()


def decide(job: Job | None, message: m.Message, now: int, jitter: float = 0.0, policy: Policy = _DEFAULT) -> Decision:
    """What follows from a message at `now` (ms since the epoch); `jitter` in [0, 1) spreads the delays of retries."""
    decision = _decide(job, message, now, jitter, policy)
    if isinstance(message, m.Command) and message.request:
        return replace(decision, outcome=replace(decision.outcome, request=message.request))
    return decision


def _decide(job: Job | None, message: m.Message, now: int, jitter: float, policy: Policy) -> Decision:
    if isinstance(message, m.Submit):
        return _submitted_again(job, message) if job else _submit(message, now, jitter, policy)
    refusal = REFUSALS[job.status if job else ABSENT][type(message)]
    if job is None or refusal is not None:
        return _refuse(job, refusal or UNKNOWN)
    if isinstance(message, m.Cancel | m.Retry | m.Forget | m.Redeliver) and message.if_match not in (None, job.seq):
        return _refuse(job, PRECONDITION, f"the job is at seq {job.seq}")
    draft = Draft(job, now, jitter, policy)
    refusal = _apply(draft, message)
    return _refuse(job, refusal, _reason(job, refusal)) if refusal else _accept(draft)


def _apply(draft: Draft, message: m.Message) -> str | None:
    """Let the rule of this message write the draft; a code when it refuses after all."""
    match message:
        case m.Cancel():
            _cancel(draft)
        case m.Retry():
            return _retry(draft, message)
        case m.Forget():
            _expire(draft, "forgotten")
        case m.FilesRemoved():
            draft.effect(Erase(draft.policy.tombstone // 1000))
        case m.Fired(timer="expire", token=attempt):
            # Set by the end of an attempt: one that a retry has left behind is not this job's end any more.
            if draft.job.status not in TERMINAL or attempt != draft.job.attempt:
                return STALE
            _expire(draft, "retention")
        case m.Fired(timer=name) if name.startswith("webhook:"):
            return webhooks.timer_fired(draft, message)
        case m.Redeliver() | m.Delivered() | m.DeliveryFailed() | m.DeliveryPostponed():
            return webhooks.RULES[type(message)](draft, message)
        case m.Fired():
            return timer_fired(draft, message)
        case _:
            return RULES[type(message)](draft, message)
    return None


def _accept(draft: Draft, *before: e.Event) -> Decision:
    outcome = Outcome(True, "accepted", draft.job.status, draft.job.seq, handed_on=draft.handed_on)
    return Decision((*before, *draft.events), draft.effects, outcome, draft.job)


def _refuse(job: Job | None, code: str, detail: str = "") -> Decision:
    status, seq = (job.status, job.seq) if job else (ABSENT, 0)
    return Decision((), (), Outcome(False, code, status, seq, detail), job)


def _reason(job: Job, code: str) -> str:
    if code != UNKNOWN_STAGE:
        return ""
    names = (f"{spec.name}, {spec.name}:N" if spec.each else spec.name for spec in job.graph)
    return f"its stages are: {', '.join(names)}"


def _submit(message: m.Submit, now: int, jitter: float, policy: Policy) -> Decision:
    try:
        check_graph(message.graph)
    except GraphError as error:
        return _refuse(None, INVALID_GRAPH, str(error))
    event = _submitted(message, now)
    draft = Draft(evolve(None, event), now, jitter, policy)
    if message.callback_own_secret:
        draft.effect(KeepSecret())
    draft.advance()
    return _accept(draft, event)


def _submitted(message: m.Submit, now: int) -> e.Event:
    body = e.JobSubmitted(
        message.job,
        message.tenant,
        message.pipeline,
        message.params,
        message.graph,
        message.input,
        message.fingerprint,
        message.callback_url,
        message.callback_own_secret,
        message.origin,
    )
    return e.Event(1, "JobSubmitted", rfc3339(now), 1, body)


def as_submitted(message: m.Submit, now: int) -> Job:
    """The job of an accepted submission that its owner has not written yet, as its readers get it: its seq is 0."""
    return replace(evolve(None, _submitted(message, now)), seq=0)


def _submitted_again(job: Job, message: m.Submit) -> Decision:
    """The same submission delivered twice is one job; another one under its id is a conflict."""
    if message.fingerprint != job.fingerprint:
        return _refuse(job, EXISTS)
    return Decision((), (), Outcome(True, "accepted", job.status, job.seq), job)


def _cancel(draft: Draft) -> None:
    if draft.job.status == "cancelling":
        return
    draft.emit(e.CancelRequested())
    running = [s for s in draft.job.stages.values() if s.status == "running"]
    for state in list(draft.job.stages.values()):
        if state.status == "dispatched":
            draft.stop(state, "cancelled")
        elif state.status == "waiting":
            draft.clear(f"retry:{state.name}")
    for state in running:
        draft.interrupt(state)
    if running:
        draft.timer("grace", draft.job.attempt, draft.policy.cancel_grace)
    else:
        draft.cancelled()


def _retry(draft: Draft, message: m.Retry) -> str | None:
    reset = stages_to_reset(draft.job, message.from_stage)
    if not reset:
        return UNKNOWN_STAGE
    if webhooks.no_room(draft.job):
        return webhooks.UNDER_WAY
    params: dict[str, Any] = {**draft.job.params, **(message.params or {})}
    draft.clear("expire")
    draft.emit(e.JobRetried(message.from_stage, params, reset))
    draft.advance()
    return None


def stages_to_reset(job: Job, from_stage: str | None) -> tuple[str, ...]:
    """The stages that a retry runs again: the one named (all instances of a fan-out's name) with all that need it,
    and whatever is not settled. Nothing named: what has not succeeded; everything, if all has. Empty: no such stage.
    """
    states = job.stages.values()
    if from_stage is None:
        first = {s.name for s in states if s.status not in ("succeeded", "skipped")}
        first = first or {s.name for s in states}
    else:
        first = {s.name for s in states if from_stage in (s.name, s.spec)}
        if not first:
            return ()
        first |= {s.name for s in states if not job.settled(s)}
    reset: set[str] = set(first)
    for state in states:  # in the order of the graph, so that one pass carries a reset to all that follows
        needs = job.spec(state).needs
        if any(s.name in reset for need in needs for s in job.instances(need)):
            reset.add(state.name)
    return tuple(s.name for s in states if s.name in reset)


def _expire(draft: Draft, reason: Literal["retention", "forgotten"]) -> None:
    draft.clear("expire")
    webhooks.give_up_all(draft, reason)
    draft.emit(e.JobExpired(reason))
    draft.effect(RemoveFiles())
