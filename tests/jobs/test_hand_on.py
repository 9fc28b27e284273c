"""What a worker gets with its success: the job's next stage; and what an ending still has to say."""

from __future__ import annotations

from typing import Any

import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.effects import Dispatch, SetTimer
from tests.jobs.kit import DIAMOND, LINEAR, START, Play, interrupts, types


def test_a_worker_that_goes_on_is_given_the_next_stage_of_its_queue_with_its_success() -> None:
    play = Play(LINEAR)
    decision = play.succeed("a", onward="w7")
    assert types(decision) == ["StageSucceeded", "StageDispatched", "StageStarted"]
    token = decision.events[1].seq
    assert decision.outcome.handed_on == ("b", token)
    assert (play.stage("b").status, play.stage("b").worker, play.stage("b").token) == ("running", "w7", token)
    assert play.dispatches == {}
    assert play.timers == {
        "alive:b": SetTimer("alive:b", token, START + 8_000),
        "deadline:b": SetTimer("deadline:b", token, START + 3_600_000),
    }


def test_a_stage_of_another_queue_is_dispatched_however_willing_the_worker_is() -> None:
    play = Play(LINEAR)
    play.succeed("a", onward="w7")
    decision = play.succeed("b", onward="w8")
    assert types(decision) == ["StageSucceeded", "StageDispatched"]
    assert decision.outcome.handed_on is None
    assert list(play.dispatches.values()) == [Dispatch("c", decision.events[1].seq, "io")]


def test_of_two_stages_that_can_run_one_is_handed_on_and_the_other_dispatched() -> None:
    play = Play(DIAMOND)
    decision = play.succeed("a", onward="w7")
    assert play.statuses() == {"a": "succeeded", "b": "running", "c": "dispatched", "d": "waiting"}
    assert [dispatch.stage for dispatch in play.dispatches.values()] == ["c"]
    assert decision.outcome.handed_on == ("b", play.stage("b").token)


def test_nothing_is_handed_on_after_a_cancel() -> None:
    play = Play(LINEAR)
    play.claim("a")
    play.tell(m.Cancel())
    decision = play.succeed("a", onward="w7")
    assert types(decision) == ["StageStopped", "JobCancelled"]
    assert decision.outcome.handed_on is None


def test_a_cancel_interrupts_what_was_handed_on() -> None:
    play = Play(LINEAR)
    play.succeed("a", onward="w7")
    assert [i.stage for i in interrupts(play.tell(m.Cancel()))] == ["b"]


def test_who_never_heard_that_it_was_handed_a_stage_counts_as_lost() -> None:
    play = Play(LINEAR)
    play.succeed("a", onward="w7")
    decision = play.tell(play.ring("alive:b"))
    assert types(decision) == ["StageFailed", "StageRetryScheduled"]
    assert (play.stage("b").status, play.stage("b").losses, play.job.status) == ("waiting", 1, "running")


ENDINGS: dict[str, Any] = {
    "StageSucceeded": lambda token, said: m.Succeeded("a", token, said=said),
    "StageFailed": lambda token, said: m.Failed("a", token, "broken", "it broke", said=said),
    "StageStopped": lambda token, said: m.Stopped("a", token, "shutdown", said=said),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_an_ending_has_to_say_comes_before_it(ending: str) -> None:
    play = Play(LINEAR)
    play.claim("a")
    token = play.stage("a").token
    said = (
        m.LogLines("a", token, 1, ("line",)),
        m.Partial("a", token, 2, {"x": 1}),
        m.Progress("a", token, 3, 0.5, "half"),
    )
    decision = play.tell(ENDINGS[ending](token, said))
    assert types(decision)[:4] == ["StageLogged", "PartialResult", "StageProgressed", ending]
    assert decision.events[2].data == e.StageProgressed(0.5, "half", 3)


def test_what_was_heard_already_or_is_not_the_stages_own_is_not_heard_with_its_ending() -> None:
    play = Play(DIAMOND)
    play.succeed("a")
    play.claim("b"), play.claim("c")
    token = play.stage("b").token
    play.tell(m.Progress("b", token, 1, 0.5, "half"))
    said = (
        m.Progress("b", token, 1, 0.5, "half"),
        m.Progress("b", 2, 2, 0.6, "an older dispatch"),
        m.Progress("c", play.stage("c").token, 1, 0.7, "another stage"),
    )
    assert types(play.tell(m.Succeeded("b", token, said=said))) == ["StageSucceeded"]
    assert play.stage("c").progress == 0.0
