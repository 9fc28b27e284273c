"""The tables: which message is heard in which status, and where each event leads. All that decides it is here."""

from __future__ import annotations

from typing import Any, Literal, cast

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.job import JobStatus, StageStatus

ABSENT = "absent"
Action = Literal["cancel", "retry", "forget"]
STATUSES = (ABSENT, "queued", "running", "cancelling", "completed", "failed", "cancelled", "expired")

# Permanent codes of a refusal; the HTTP status of each is in http/problems.py.
UNKNOWN = "job_unknown"
EXISTS = "submission_conflict"
ACTIVE = "job_active"
ENDED = "job_ended"
EXPIRED = "job_expired"
STALE = "stale_report"

_REPORTS = (m.Claim, m.Heartbeat, m.Progress, m.LogLines, m.Partial, m.Succeeded, m.Failed, m.Stopped)
_ENDINGS = (m.Succeeded, m.Failed, m.Stopped)
_OWN = (m.Fired, m.FilesRemoved)
_OF_WEBHOOKS = (m.Delivered, m.DeliveryFailed, m.DeliveryPostponed)


def _row(
    heard: tuple[type[Any], ...],
    *,
    submit: str | None,
    retry: str | None,
    forget: str | None,
    cancel: str | None,
    redeliver: str | None = None,
) -> dict[type[Any], str | None]:
    row: dict[type[Any], str | None] = dict.fromkeys((*_REPORTS, *_OWN, *_OF_WEBHOOKS), STALE)
    row |= dict.fromkeys(heard)
    row |= {m.Submit: submit, m.Retry: retry, m.Forget: forget, m.Cancel: cancel, m.Redeliver: redeliver}
    return row


_live = (m.Fired, *_OF_WEBHOOKS)
_ended = _row(_live, submit=EXISTS, retry=None, forget=None, cancel=ENDED)

# None: the message is heard (its rule may still refuse it); a code: it is refused, and changes nothing.
REFUSALS: dict[str, dict[type[Any], str | None]] = {
    ABSENT: _row((), submit=None, retry=UNKNOWN, forget=UNKNOWN, cancel=UNKNOWN, redeliver=UNKNOWN),
    "queued": _row((*_REPORTS, *_live), submit=EXISTS, retry=ACTIVE, forget=ACTIVE, cancel=None),
    "running": _row((*_REPORTS, *_live), submit=EXISTS, retry=ACTIVE, forget=ACTIVE, cancel=None),
    "cancelling": _row((*_ENDINGS, *_live), submit=EXISTS, retry=ACTIVE, forget=ACTIVE, cancel=None),
    "completed": _ended,
    "failed": _ended,
    "cancelled": _ended,
    "expired": _row((m.FilesRemoved,), submit=EXISTS, retry=EXPIRED, forget=EXPIRED, cancel=EXPIRED, redeliver=EXPIRED),
}

LIVE = ("queued", "running")

# The only ways in which an event may change the status of a job; an event that is not named leaves it as it is.
TRANSITIONS: dict[tuple[str, type[Any]], str] = {
    (ABSENT, e.JobSubmitted): "queued",
    ("queued", e.StageStarted): "running",
    **{(status, e.CancelRequested): "cancelling" for status in LIVE},
    **{(status, e.JobCompleted): "completed" for status in LIVE},
    **{(status, e.JobFailed): "failed" for status in LIVE},
    ("cancelling", e.JobCancelled): "cancelled",
    **{(status, e.JobRetried): "queued" for status in ("completed", "failed", "cancelled")},
    **{(status, e.JobExpired): "expired" for status in ("completed", "failed", "cancelled")},
}

# The same for the status of a stage. A fan-out with items is replaced by its instances, each `waiting`.
STAGE_TRANSITIONS: dict[tuple[str, type[Any]], str] = {
    ("waiting", e.StageDispatched): "dispatched",
    ("waiting", e.StageExpanded): "skipped",
    ("dispatched", e.StageStarted): "running",
    ("dispatched", e.StageStopped): "stopped",
    ("running", e.StageProgressed): "running",
    ("running", e.StageLogged): "running",
    ("running", e.PartialResult): "running",
    ("running", e.StageSucceeded): "succeeded",
    ("running", e.StageFailed): "failed",
    ("running", e.StageStopped): "stopped",
    ("failed", e.StageRetryScheduled): "waiting",
}
# A worker that shuts down gives its stage back: it waits for another one.
GIVEN_BACK: dict[tuple[str, type[Any]], str] = {("running", e.StageStopped): "waiting"}
# They leave the status of the job as it is, and happen only while it is live.
_STAGE_EVENTS = frozenset(event for _, event in STAGE_TRANSITIONS)
# They leave it as it is at any time: a retry may be under way while its client is told of the end before it.
_WEBHOOK_EVENTS = frozenset(e.WebhookBody.__args__)


def next_stage_status(status: str, body: Any) -> StageStatus:
    """The status of a stage after an event; AssertionError for one that the table does not have."""
    given_back = isinstance(body, e.StageStopped) and body.reason == "shutdown"
    after = (GIVEN_BACK if given_back else STAGE_TRANSITIONS).get((status, type(body)))
    if after is None:
        raise AssertionError(f"{type(body).__name__} cannot happen to a stage that is {status}")
    return cast("StageStatus", after)


def next_status(status: str, event: type[Any]) -> JobStatus:
    """The status after an event; AssertionError for one that the table does not have."""
    if (status, event) in TRANSITIONS:
        return cast("JobStatus", TRANSITIONS[status, event])
    live = status in LIVE and event in _STAGE_EVENTS
    stopping = status == "cancelling" and event is e.StageStopped
    telling = status not in (ABSENT, "expired") and event in _WEBHOOK_EVENTS
    if not (live or stopping or telling):
        raise AssertionError(f"{event.__name__} cannot happen while {status}")
    return cast("JobStatus", status)


def allowed_actions(status: str) -> list[Action]:
    """What a client may ask of a job in this status."""
    row = REFUSALS[status]
    actions: dict[Action, type[Any]] = {"cancel": m.Cancel, "retry": m.Retry, "forget": m.Forget}
    return [name for name, message in actions.items() if row[message] is None and status != "cancelling"]
