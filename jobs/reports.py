"""What a stage's reports and the job's timers lead to. A report counts only with the current token (I13)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Draft, rfc3339
from callsheet.jobs.graph import MAX_FAN_OUT
from callsheet.jobs.job import StageState
from callsheet.jobs.states import LIVE, STALE

MIN_STEP = 0.001  # progress that moved less, with the same words, is not worth an event
MAX_LOG_LINES = 1_000
MAX_LINE = 500
# A journal never grows past this by progress, log lines and partial results; what ends the job is always written.
MAX_CHATTER_SEQ = 50_000
LATE = 3_000  # ms: a timer fires that late only when nobody could fire it, and so nobody could be heard either


def _current(draft: Draft, report: m.Report, *statuses: str) -> StageState | None:
    state = draft.job.stages.get(report.stage)
    if state is None or state.token != report.token or state.status not in statuses:
        return None
    return state


def claim(draft: Draft, report: m.Claim) -> str | None:
    """The first worker to claim a dispatch runs it; to the same one the claim is granted again."""
    state = _current(draft, report, "dispatched", "running")
    if state is None or (state.status == "running" and state.worker != report.worker):
        return STALE
    if state.status == "dispatched":
        draft.start(state, report.worker)
    else:
        draft.alive(state)
    return None


def heartbeat(draft: Draft, report: m.Heartbeat) -> str | None:
    """A sign of life puts off the moment at which the worker counts as lost."""
    state = _current(draft, report, "running")
    if state is None:
        return STALE
    draft.alive(state)
    return None


def _chatter(draft: Draft, report: m.Chatter) -> StageState | None:
    """The stage behind a numbered report, unless the report is stale or a repeat."""
    state = _current(draft, report, "running")
    if state is None or report.n <= state.heard:
        return None
    draft.alive(state)
    return state


def _ending(draft: Draft, report: m.Ending) -> StageState | None:
    """The stage that ends, once it has said what it had left to say; None when the report does not count."""
    state = _current(draft, report, "running")
    if state is None or draft.job.status not in LIVE:
        return state
    for said in report.said:
        if (said.stage, said.token) == (report.stage, report.token):
            RULES[type(said)](draft, said)
    return draft.job.stages[report.stage]


def _write(draft: Draft, state: StageState, body: e.StageProgressed | e.StageLogged | e.PartialResult) -> None:
    """Chatter past the journal's bound is heard, so that its worker goes on, but not written."""
    if draft.job.seq < MAX_CHATTER_SEQ:
        draft.emit(body, state.name)


def progress(draft: Draft, report: m.Progress) -> str | None:
    """Progress never falls (I14): a stage that is tried again shows its words at the mark reached before."""
    state = _chatter(draft, report)
    if state is None:
        return STALE
    fraction = state.progress if math.isnan(report.fraction) else min(1.0, max(state.progress, report.fraction))
    message = report.message[:MAX_LINE]
    if fraction - state.progress >= MIN_STEP or message != state.message:
        _write(draft, state, e.StageProgressed(fraction, message, report.n))
    return None


def log_lines(draft: Draft, report: m.LogLines) -> str | None:
    """Lines for the log, shortened; those past the stage's bound are dropped."""
    state = _chatter(draft, report)
    if state is None:
        return STALE
    lines = tuple(line[:MAX_LINE] for line in report.lines[: MAX_LOG_LINES - state.logged])
    if lines:
        _write(draft, state, e.StageLogged(lines, report.n))
    return None


def partial(draft: Draft, report: m.Partial) -> str | None:
    """A piece of the result, for those who watch."""
    state = _chatter(draft, report)
    if state is None:
        return STALE
    _write(draft, state, e.PartialResult(report.data, report.n))
    return None


def succeeded(draft: Draft, report: m.Succeeded) -> str | None:
    """The stage is done and the job goes on, unless a cancel came first (I11)."""
    state = _ending(draft, report)
    if state is None:
        return STALE
    if draft.job.status == "cancelling":
        _stopped_by_cancel(draft, state)
    elif len(report.items or ()) > MAX_FAN_OUT:
        message = f"{len(report.items or ())} items; at most {MAX_FAN_OUT} can be fanned out"
        _fail(draft, state, e.StageFailed("fan_out_too_large", message, retryable=False))
    else:
        draft.leave(state)
        body = e.StageSucceeded(report.outputs, report.data, report.result, report.items, report.input, report.reused)
        draft.emit(body, state.name)
        draft.advance(report.onward, draft.job.spec(state).queue)
    return None


def failed(draft: Draft, report: m.Failed) -> str | None:
    """A try of the stage failed."""
    state = _ending(draft, report)
    if state is None:
        return STALE
    _fail(draft, state, e.StageFailed(report.code, report.message[:MAX_LINE], report.retryable))
    return None


def stopped(draft: Draft, report: m.Stopped) -> str | None:
    """The stage is dead: by a cancel, or else its worker gave it back and another one gets it."""
    state = _ending(draft, report)
    if state is None or report.worker not in ("", state.worker):
        return STALE
    if draft.job.status == "cancelling":
        _stopped_by_cancel(draft, state)
    else:
        draft.leave(state)
        draft.emit(e.StageStopped("shutdown"), state.name)
        draft.advance()
    return None


def _fail(draft: Draft, state: StageState, body: e.StageFailed) -> None:
    """A try failed: try again if the policy of the stage allows, else end the stage, and the job with it."""
    if draft.job.status == "cancelling":
        _stopped_by_cancel(draft, state)
        return
    draft.leave(state)
    draft.emit(body, state.name)
    now = draft.job.stages[state.name]
    policy = draft.job.spec(state).retry
    if body.lost and now.losses <= draft.policy.max_losses:
        _schedule(draft, now, 0.0)
    elif body.retryable and not body.lost and now.tries < policy.tries:
        _schedule(draft, now, policy.delay(now.tries, draft.jitter))
    elif draft.job.settled(now):
        draft.advance()
    else:
        draft.fail(now, body)


def _schedule(draft: Draft, state: StageState, delay: float) -> None:
    due = draft.now + int(delay * 1000)
    draft.emit(e.StageRetryScheduled(round(delay, 3), rfc3339(due)), state.name)
    draft.timer(f"retry:{state.name}", state.token, delay * 1000)


def _stopped_by_cancel(draft: Draft, state: StageState) -> None:
    draft.leave(state)
    draft.emit(e.StageStopped("cancelled"), state.name)
    if not any(s.status == "running" for s in draft.job.stages.values()):
        draft.cancelled()


def timer_fired(draft: Draft, fired: m.Fired) -> str | None:
    """A timer of a stage, or the grace of a cancel; one whose token is not current any more means nothing."""
    kind, _, name = fired.timer.partition(":")
    if kind == "grace":
        return _grace_over(draft, fired)
    state = draft.job.stages.get(name)
    if state is None or state.token != fired.token:
        return STALE
    match kind, state.status:
        case "retry", "waiting" if state.retry_at is not None and draft.job.status in LIVE:
            draft.dispatch(state)
        case "alive", "running" if fired.late > LATE:
            draft.alive(state)  # the journal or its hosts were away: the worker has as long again to be heard
        case "alive", "running":
            draft.interrupt(state)
            _fail(draft, state, e.StageFailed("worker_lost", "the worker fell silent", retryable=True, lost=True))
        case "deadline", "running":
            draft.interrupt(state)
            seconds = draft.job.spec(state).deadline
            body = e.StageFailed("stage_deadline", f"not done within {seconds:g} s", retryable=False)
            _fail(draft, state, body)
    return None


def _grace_over(draft: Draft, fired: m.Fired) -> str | None:
    """No word from the stages that a cancel interrupted: the job is cancelled without them."""
    if draft.job.status != "cancelling" or fired.token != draft.job.attempt:
        return STALE
    draft.stop_all("cancelled")
    draft.cancelled()
    return None


RULES: dict[type[Any], Callable[[Draft, Any], str | None]] = {
    m.Claim: claim,
    m.Heartbeat: heartbeat,
    m.Progress: progress,
    m.LogLines: log_lines,
    m.Partial: partial,
    m.Succeeded: succeeded,
    m.Failed: failed,
    m.Stopped: stopped,
}
