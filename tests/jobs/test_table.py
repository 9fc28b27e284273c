"""The tables: every message in every status, every event in every status."""

from __future__ import annotations

from typing import Any

import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.evolve import evolve
from callsheet.jobs.rules import decide
from callsheet.jobs.states import (
    GIVEN_BACK,
    REFUSALS,
    STAGE_TRANSITIONS,
    STATUSES,
    TRANSITIONS,
    allowed_actions,
    next_stage_status,
    next_status,
)
from tests.jobs.kit import HOOK, LINEAR, START, in_status, sample, submission

H, STALE, ACTIVE, ENDED, GONE = None, "stale_report", "job_active", "job_ended", "job_expired"
UNKNOWN, TAKEN = "job_unknown", "submission_conflict"

# absent, queued, running, cancelling, completed, failed, cancelled, expired. Written by hand, to be compared.
_CHATTER = (STALE, H, H, STALE, STALE, STALE, STALE, STALE)
_ENDING = (STALE, H, H, H, STALE, STALE, STALE, STALE)
EXPECTED: dict[type[Any], tuple[str | None, ...]] = {
    m.Submit: (H, *[TAKEN] * 7),
    m.Cancel: (UNKNOWN, H, H, H, ENDED, ENDED, ENDED, GONE),
    m.Retry: (UNKNOWN, ACTIVE, ACTIVE, ACTIVE, H, H, H, GONE),
    m.Forget: (UNKNOWN, ACTIVE, ACTIVE, ACTIVE, H, H, H, GONE),
    m.Redeliver: (UNKNOWN, *[H] * 6, GONE),
    **dict.fromkeys((m.Claim, m.Heartbeat, m.Progress, m.LogLines, m.Partial), _CHATTER),
    **dict.fromkeys((m.Succeeded, m.Failed, m.Stopped), _ENDING),
    m.Fired: (STALE, H, H, H, H, H, H, STALE),
    **dict.fromkeys((m.Delivered, m.DeliveryFailed, m.DeliveryPostponed), (STALE, *[H] * 6, STALE)),
    m.FilesRemoved: (*[STALE] * 7, H),
}
PAIRS = [(status, kind) for status in STATUSES for kind in m.MESSAGES]


def _id(value: Any) -> str:
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize(("status", "kind"), PAIRS, ids=_id)
def test_every_message_in_every_status_is_heard_or_refused_as_the_table_says(status: str, kind: type[Any]) -> None:
    play = in_status(status, HOOK)
    job = play.job if play else None
    webhooks = job.webhooks if job else ()
    message = sample(kind, job.stages["a"].token if job else 1, 1, webhooks[0].seq if webhooks else 1)
    expected = EXPECTED[kind][STATUSES.index(status)]
    assert REFUSALS[status][kind] == expected
    decision = decide(job, message, START)
    if expected is not None:
        assert decision.outcome.code == expected
    # In `queued` nothing runs yet, so only a claim can be right; `expire` is right only after the end.
    elif (status == "queued" and issubclass(kind, m.Report | m.Fired) and kind is not m.Claim) or (
        kind is m.Fired and status in ("running", "cancelling")
    ):
        assert decision.outcome.code == STALE
    elif kind is m.Redeliver:
        assert decision.outcome.code == ("webhook_under_way" if webhooks else "nothing_to_deliver")
    elif "Deliver" in kind.__name__ and not webhooks:
        assert decision.outcome.code == STALE
    else:
        assert decision.outcome.code == "accepted"
    if not decision.outcome.ok:
        assert (decision.events, decision.effects, decision.job) == ((), (), job)


def test_the_table_names_every_message_in_every_status() -> None:
    assert {status: set(row) for status, row in REFUSALS.items()} == {s: set(m.MESSAGES) for s in STATUSES}


EXPECTED_TRANSITIONS = {
    ("absent", "JobSubmitted"): "queued",
    ("queued", "StageStarted"): "running",
    ("queued", "CancelRequested"): "cancelling",
    ("running", "CancelRequested"): "cancelling",
    ("queued", "JobCompleted"): "completed",
    ("running", "JobCompleted"): "completed",
    ("queued", "JobFailed"): "failed",
    ("running", "JobFailed"): "failed",
    ("cancelling", "JobCancelled"): "cancelled",
    **{(status, "JobRetried"): "queued" for status in ("completed", "failed", "cancelled")},
    **{(status, "JobExpired"): "expired" for status in ("completed", "failed", "cancelled")},
}
EVENTS = [(status, body) for status in STATUSES for body in e.BODIES.values()]


@pytest.mark.parametrize(("status", "body"), EVENTS, ids=_id)
def test_every_event_in_every_status_follows_the_table_or_cannot_happen(status: str, body: type[Any]) -> None:
    of_a_stage = body.__name__.startswith("Stage") or body is e.PartialResult
    stays = of_a_stage and (status in ("queued", "running") or (status == "cancelling" and body is e.StageStopped))
    stays = stays or (body.__name__.startswith("Webhook") and status not in ("absent", "expired"))
    expected = EXPECTED_TRANSITIONS.get((status, body.__name__), status if stays else None)
    if expected is None:
        with pytest.raises(AssertionError, match="cannot happen"):
            next_status(status, body)
    else:
        assert next_status(status, body) == expected


def test_the_table_has_no_transition_but_these() -> None:
    assert {(s, body.__name__): after for (s, body), after in TRANSITIONS.items()} == EXPECTED_TRANSITIONS


STAGE_STATUSES = ("waiting", "dispatched", "running", "succeeded", "failed", "skipped", "stopped")
STAGE_BODIES = {
    e.StageDispatched: e.StageDispatched("cpu"),
    e.StageStarted: e.StageStarted(2, "w1"),
    e.StageProgressed: e.StageProgressed(0.5, "", 1),
    e.StageLogged: e.StageLogged(("line",), 1),
    e.PartialResult: e.PartialResult({}, 1),
    e.StageSucceeded: e.StageSucceeded(),
    e.StageExpanded: e.StageExpanded(()),
    e.StageFailed: e.StageFailed("broken", "it broke", retryable=False),
    e.StageRetryScheduled: e.StageRetryScheduled(1.0, "2026-01-01T00:00:00.000Z"),
    e.StageStopped: e.StageStopped("cancelled"),
}


@pytest.mark.parametrize("status", STAGE_STATUSES)
@pytest.mark.parametrize("body", [*STAGE_BODIES.values(), e.StageStopped("shutdown")], ids=lambda b: type(b).__name__)
def test_every_event_of_a_stage_follows_the_table_or_cannot_happen(status: str, body: Any) -> None:
    given_back = body == e.StageStopped("shutdown")
    expected = (GIVEN_BACK if given_back else STAGE_TRANSITIONS).get((status, type(body)))
    if expected is None:
        with pytest.raises(AssertionError, match="cannot happen"):
            next_stage_status(status, body)
    else:
        assert next_stage_status(status, body) == expected


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
@pytest.mark.parametrize("body", STAGE_BODIES.values(), ids=lambda b: type(b).__name__)
def test_no_event_of_a_stage_can_be_folded_into_a_job_that_ended(status: str, body: Any) -> None:
    play = in_status(status)
    assert play is not None
    event = e.Event(play.job.seq + 1, type(body).__name__, play.job.updated_at, play.job.attempt, body, "a")
    with pytest.raises(AssertionError):
        evolve(play.job, event)


def test_an_event_that_does_not_follow_the_last_one_is_not_folded() -> None:
    play = in_status("running")
    assert play is not None
    body = e.CancelRequested()
    for seq in (play.job.seq, play.job.seq + 2):
        with pytest.raises(AssertionError, match="does not follow"):
            evolve(play.job, e.Event(seq, "CancelRequested", play.job.updated_at, 1, body))


def test_allowed_actions_are_those_that_would_be_heard_and_do_something() -> None:
    assert {status: allowed_actions(status) for status in STATUSES} == {
        "absent": [],
        "queued": ["cancel"],
        "running": ["cancel"],
        "cancelling": [],
        "completed": ["retry", "forget"],
        "failed": ["retry", "forget"],
        "cancelled": ["retry", "forget"],
        "expired": [],
    }


def test_a_submission_delivered_twice_is_one_job_and_another_one_under_its_id_is_a_conflict() -> None:
    first = decide(None, submission(LINEAR), START)
    again = decide(first.job, submission(LINEAR), START + 1)
    other = decide(first.job, submission(LINEAR, fingerprint="other"), START + 1)
    assert (again.outcome.ok, again.events, again.effects, again.job) == (True, (), (), first.job)
    assert (other.outcome.ok, other.outcome.code) == (False, TAKEN)
