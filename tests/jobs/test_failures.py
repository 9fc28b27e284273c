"""A try that fails, a worker that dies, a stage that takes too long, a worker that is shut down."""

from __future__ import annotations

import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.effects import Interrupt, SetTimer
from callsheet.jobs.reports import LATE
from tests.jobs.kit import FAN, LINEAR, START, STRICT_FAN, Play, body, interrupts, types


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 1.0), (0.5, 0.75)])
def test_a_retryable_failure_waits_for_its_delay_with_the_jitter_given(jitter: float, delay: float) -> None:
    play = Play(LINEAR)
    play.jitter = jitter
    play.claim("a")
    decision = play.fail("a", retryable=True)
    assert types(decision) == ["StageFailed", "StageRetryScheduled"]
    assert body(decision, e.StageRetryScheduled).delay == delay
    assert play.timers == {"retry:a": SetTimer("retry:a", 2, START + int(delay * 1000))}
    assert (play.stage("a").status, play.stage("a").tries) == ("waiting", 1)


def test_the_retry_timer_dispatches_the_stage_under_a_new_token_and_clears_its_error() -> None:
    play = Play(LINEAR)
    play.fail("a", retryable=True)
    assert play.stage("a").error is not None
    assert types(play.fire("retry:a")) == ["StageDispatched"]
    state = play.stage("a")
    assert (state.status, state.token, state.retry_at, state.error) == ("dispatched", play.job.seq, None, None)


def test_the_last_try_that_fails_ends_the_job() -> None:
    play = Play(LINEAR)
    play.fail("a", retryable=True)
    play.fire("retry:a")
    play.claim("a")
    assert types(play.fail("a", retryable=True)) == ["StageFailed", "JobFailed"]
    assert play.stage("a").tries == 2


def test_a_terminal_failure_is_not_tried_again() -> None:
    play = Play(LINEAR)
    play.claim("a")
    assert types(play.fail("a", retryable=False)) == ["StageFailed", "JobFailed"]


def test_a_stage_that_waits_for_its_retry_is_not_dispatched_by_another_that_ends() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    play.fail("clip:0", retryable=True)
    assert types(play.succeed("clip:1")) == ["StageSucceeded"]
    assert play.stage("clip:0").status == "waiting"


def test_a_retry_timer_counts_once_and_only_with_its_token() -> None:
    play = Play(LINEAR)
    play.fail("a", retryable=True)
    token = play.stage("a").token
    assert play.tell(m.Fired("retry:a", token + 1)).outcome.code == "stale_report"
    fired = play.ring("retry:a")
    assert types(play.deliver(fired)) == ["StageDispatched"]
    assert play.tell(fired).outcome.code == "stale_report"


def test_a_worker_that_nobody_could_hear_for_a_while_has_as_long_again_to_be_heard() -> None:
    play = Play(LINEAR)
    play.claim("a")
    assert play.fire("alive:a", late=LATE + 1).events == ()
    assert play.stage("a").status == "running"
    assert play.timers["alive:a"] == SetTimer("alive:a", 2, play.now + Policy().lost_after)
    assert types(play.fire("alive:a", late=LATE)) == ["StageFailed", "StageRetryScheduled"]


def test_a_retry_timer_that_nobody_set_does_not_start_a_stage_before_its_turn() -> None:
    play = Play(LINEAR)
    assert play.tell(m.Fired("retry:b", play.stage("b").token)).events == ()


@pytest.mark.parametrize("how", ["cancel", "failure"])
def test_a_retry_timer_that_rang_before_the_job_ended_starts_nothing_after_it(how: str) -> None:
    play = Play(STRICT_FAN)
    play.succeed("side")
    play.succeed("plan", items=("x", "y"))
    play.fail("clip:0", retryable=True)
    fired = play.ring("retry:clip:0")
    if how == "cancel":
        play.tell(m.Cancel())
    else:
        play.fail("clip:1")
    assert play.job.status == {"cancel": "cancelled", "failure": "failed"}[how]
    assert play.deliver(fired).events == ()


def test_the_end_of_a_job_takes_back_the_retry_that_another_stage_waits_for() -> None:
    play = Play(STRICT_FAN)
    play.succeed("side")
    play.succeed("plan", items=("x", "y"))
    play.fail("clip:0", retryable=True)
    play.fail("clip:1")
    assert list(play.timers) == ["expire"]


def test_a_silent_worker_is_interrupted_and_its_stage_goes_to_another_at_once() -> None:
    play = Play(LINEAR)
    play.claim("a")
    decision = play.fire("alive:a")
    assert types(decision) == ["StageFailed", "StageRetryScheduled"]
    assert body(decision, e.StageFailed).lost
    assert body(decision, e.StageRetryScheduled).delay == 0.0
    assert interrupts(decision) == [Interrupt("a", 2)]
    assert types(play.fire("retry:a")) == ["StageDispatched"]


def test_losses_are_counted_apart_from_tries_and_up_to_their_bound() -> None:
    play = Play(LINEAR, policy=Policy(max_losses=3))
    for _ in range(3):
        play.claim("a")
        play.fire("alive:a")
        play.fire("retry:a")
    assert (play.stage("a").tries, play.stage("a").losses) == (0, 3)
    play.claim("a")
    assert types(play.fire("alive:a")) == ["StageFailed", "JobFailed"]
    assert play.job.error is not None
    assert (play.job.error.code, play.job.error.retryable) == ("worker_lost", True)


def test_a_loss_costs_the_stage_none_of_its_tries() -> None:
    play = Play(LINEAR)
    play.claim("a")
    play.fire("alive:a")
    play.fire("retry:a")
    play.claim("a")
    assert types(play.fail("a", retryable=True)) == ["StageFailed", "StageRetryScheduled"]


def test_a_heartbeat_puts_off_the_moment_at_which_the_worker_is_lost() -> None:
    play = Play(LINEAR)
    play.claim("a")
    play.now += 5_000
    assert play.tell(m.Heartbeat("a", 2)).events == ()
    assert play.timers["alive:a"] == SetTimer("alive:a", 2, START + 13_000)
    assert play.timers["deadline:a"] == SetTimer("deadline:a", 2, START + 3_600_000)


def test_a_stage_past_its_deadline_is_interrupted_and_fails_for_good() -> None:
    play = Play(LINEAR)
    play.claim("a")
    decision = play.fire("deadline:a")
    assert types(decision) == ["StageFailed", "JobFailed"]
    assert (body(decision, e.StageFailed).code, body(decision, e.StageFailed).retryable) == ("stage_deadline", False)
    assert interrupts(decision) == [Interrupt("a", 2)]


def test_a_worker_that_shuts_down_gives_its_stage_back_and_that_counts_as_nothing() -> None:
    play = Play(LINEAR)
    play.claim("a")
    decision = play.stop("a", "shutdown")
    assert types(decision) == ["StageStopped", "StageDispatched"]
    state = play.stage("a")
    assert (state.status, state.token, state.tries, state.losses) == ("dispatched", play.job.seq, 0, 0)


def test_an_interruption_that_nobody_ordered_gives_the_stage_back_as_well() -> None:
    play = Play(LINEAR)
    play.claim("a")
    assert types(play.stop("a", "interrupted")) == ["StageStopped", "StageDispatched"]


@pytest.mark.parametrize(
    "kind", ["Claim", "Heartbeat", "Progress", "LogLines", "Partial", "Succeeded", "Failed", "Stopped"]
)
def test_a_report_under_the_token_of_an_earlier_dispatch_is_refused(kind: str) -> None:
    play = Play(LINEAR)
    play.claim("a")
    play.fire("alive:a")
    play.fire("retry:a")
    play.claim("a", "w2")
    reports: dict[str, m.Message] = {
        "Claim": m.Claim("a", 2, "w1"),
        "Heartbeat": m.Heartbeat("a", 2),
        "Progress": m.Progress("a", 2, 1, 0.5),
        "LogLines": m.LogLines("a", 2, 1, ("x",)),
        "Partial": m.Partial("a", 2, 1, {}),
        "Succeeded": m.Succeeded("a", 2),
        "Failed": m.Failed("a", 2, "broken", "it broke"),
        "Stopped": m.Stopped("a", 2),
    }
    before = play.job
    decision = play.tell(reports[kind])
    assert (decision.outcome.code, play.job) == ("stale_report", before)


def test_a_report_of_a_stage_that_does_not_exist_is_refused() -> None:
    assert Play(LINEAR).tell(m.Succeeded("nobody", 2)).outcome.code == "stale_report"


def test_an_ending_reported_twice_counts_once() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    token = play.stage("clip:0").token
    play.succeed("clip:0")
    for report in (m.Succeeded("clip:0", token), m.Failed("clip:0", token, "broken", "it broke")):
        assert play.tell(report).outcome.code == "stale_report"
