"""Cancel: in each state, racing with an ending, and without an answer (I11, I12)."""

from __future__ import annotations

import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.effects import Interrupt, SetTimer
from tests.jobs.kit import DIAMOND, FAN, LINEAR, START, Play, body, in_status, interrupts, types


def two_running() -> Play:
    play = Play(DIAMOND)
    play.succeed("a")
    play.claim("b")
    play.claim("c")
    return play


def test_cancelling_a_job_of_which_nothing_runs_ends_it_at_once() -> None:
    play = Play(LINEAR)
    decision = play.tell(m.Cancel())
    assert types(decision) == ["CancelRequested", "StageStopped", "JobCancelled"]
    assert body(decision, e.StageStopped).reason == "cancelled"
    assert (play.dispatches, interrupts(decision), list(play.timers)) == ({}, [], ["expire"])


def test_cancelling_a_job_that_waits_for_a_retry_ends_it_at_once() -> None:
    play = Play(LINEAR)
    play.fail("a", retryable=True)
    assert types(play.tell(m.Cancel())) == ["CancelRequested", "JobCancelled"]
    assert list(play.timers) == ["expire"]


def test_cancelling_a_running_job_interrupts_what_runs_and_withdraws_what_waits() -> None:
    play = Play(DIAMOND, policy=Policy(cancel_grace=1_000))
    play.succeed("a")
    play.claim("b")
    token = play.stage("b").token
    decision = play.tell(m.Cancel())
    assert types(decision) == ["CancelRequested", "StageStopped"]
    assert interrupts(decision) == [Interrupt("b", token)]
    assert play.timers["grace"] == SetTimer("grace", 1, START + 1_000)
    assert (play.job.status, play.statuses()["c"], play.dispatches) == ("cancelling", "stopped", {})


def test_the_job_is_cancelled_when_the_last_of_its_stages_is_dead() -> None:
    play = two_running()
    play.tell(m.Cancel())
    assert types(play.stop("b")) == ["StageStopped"]
    assert types(play.stop("c")) == ["StageStopped", "JobCancelled"]
    assert list(play.timers) == ["expire"]


def test_a_second_cancel_is_accepted_and_changes_nothing() -> None:
    play = two_running()
    play.tell(m.Cancel())
    again = play.tell(m.Cancel())
    assert (again.outcome.ok, again.events, again.effects) == (True, (), ())


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_cancel_after_the_end_is_refused(status: str) -> None:
    play = in_status(status)
    assert play is not None
    assert play.tell(m.Cancel()).outcome.code == "job_ended"


def test_a_success_that_comes_after_a_cancel_completes_nothing() -> None:
    play = Play(LINEAR)
    play.succeed("a")
    play.succeed("b")
    play.claim("c")
    play.tell(m.Cancel())
    assert types(play.succeed("c")) == ["StageStopped", "JobCancelled"]
    assert play.statuses()["c"] == "stopped"


def test_a_cancel_that_comes_after_the_last_success_is_too_late() -> None:
    play = Play(LINEAR)
    for name in "abc":
        play.succeed(name)
    decision = play.tell(m.Cancel())
    assert (decision.outcome.code, play.job.status) == ("job_ended", "completed")


def test_a_failure_that_comes_after_a_cancel_fails_nothing_and_retries_nothing() -> None:
    play = two_running()
    play.tell(m.Cancel())
    assert types(play.fail("b", retryable=True)) == ["StageStopped"]
    assert types(play.fail("c")) == ["StageStopped", "JobCancelled"]


def test_more_items_than_the_bound_after_a_cancel_fail_nothing() -> None:
    play = Play(FAN)
    play.claim("plan")
    play.tell(m.Cancel())
    assert types(play.succeed("plan", items=tuple(range(101)))) == ["StageStopped", "JobCancelled"]


@pytest.mark.parametrize("timer", ["alive:b", "deadline:b"])
def test_a_stage_that_is_lost_or_late_after_a_cancel_counts_as_stopped(timer: str) -> None:
    play = two_running()
    play.tell(m.Cancel())
    assert types(play.fire(timer)) == ["StageStopped"]
    assert types(play.stop("c")) == ["StageStopped", "JobCancelled"]


def test_a_stage_may_not_chat_or_be_claimed_after_a_cancel() -> None:
    play = two_running()
    token = play.stage("b").token
    play.tell(m.Cancel())
    for message in (m.Progress("b", token, 1, 0.5), m.Heartbeat("b", token), m.Claim("b", token, "w1")):
        assert play.tell(message).outcome.code == "stale_report"


def test_without_an_answer_in_time_the_job_is_cancelled_anyway() -> None:
    play = two_running()
    tokens = {name: play.stage(name).token for name in "bc"}
    play.tell(m.Cancel())
    decision = play.fire("grace")
    assert types(decision) == ["StageStopped", "StageStopped", "JobCancelled"]
    assert interrupts(decision) == [Interrupt("b", tokens["b"]), Interrupt("c", tokens["c"])]
    assert play.tell(m.Succeeded("b", tokens["b"])).outcome.code == "stale_report"


def test_the_grace_of_an_earlier_cancel_does_not_shorten_that_of_a_later_one() -> None:
    play = Play(LINEAR)
    play.claim("a")
    play.tell(m.Cancel())
    fired = play.ring("grace")
    play.stop("a")
    play.tell(m.Retry())
    play.claim("a")
    play.tell(m.Cancel())
    assert play.deliver(fired).outcome.code == "stale_report"
    assert play.job.status == "cancelling"


def test_a_grace_that_rings_after_the_last_answer_changes_nothing() -> None:
    play = Play(LINEAR)
    play.claim("a")
    play.tell(m.Cancel())
    fired = play.ring("grace")
    play.stop("a")
    assert play.deliver(fired).events == ()


def test_a_cancel_with_another_seq_than_the_jobs_is_refused() -> None:
    play = Play(LINEAR)
    refused = play.tell(m.Cancel(if_match=1))
    assert (refused.outcome.code, refused.outcome.detail) == ("precondition_failed", "the job is at seq 2")
    assert play.tell(m.Cancel(if_match=2)).outcome.ok
