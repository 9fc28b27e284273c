"""Retry: the next attempt, from which stage, with what is reused."""

from __future__ import annotations

import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from tests.jobs.kit import DIAMOND, FAN, LINEAR, STRICT_FAN, Play, body, in_status, output, types


def completed(play: Play, items: tuple[str, ...] = ()) -> Play:
    """Run all that is dispatched until the job has ended; each stage publishes a file."""
    while play.job.status in ("queued", "running"):
        name = next(iter(play.dispatches.values())).stage
        play.claim(name)
        published = (output(play, name, f"{name}.txt"),)
        play.succeed(name, outputs=published, items=items if name == "plan" else None)
    return play


def reset(play: Play, from_stage: str | None = None) -> tuple[str, ...]:
    """What a retry from this stage runs again."""
    return tuple(body(play.tell(m.Retry(from_stage)), e.JobRetried).reset)


@pytest.mark.parametrize(("stage", "again"), [("a", ("a", "b", "c")), ("b", ("b", "c")), ("c", ("c",))])
def test_a_retry_from_a_stage_runs_it_and_what_needs_it_and_reuses_the_rest(stage: str, again: tuple[str, ...]) -> None:
    play = completed(Play(LINEAR))
    before = play.job
    assert reset(play, stage) == again
    assert (play.job.status, play.job.attempt) == ("queued", 2)
    reused = [name for name in "abc" if name not in again]
    assert [play.stage(name) for name in reused] == [before.stages[name] for name in reused]
    assert next(iter(play.dispatches.values())).stage == stage
    assert completed(play).job.status == "completed"
    assert [play.stage(name).attempt for name in "abc"] == [1 if name in reused else 2 for name in "abc"]


def test_the_progress_of_an_attempt_starts_with_what_it_reuses() -> None:
    play = completed(Play(LINEAR))
    play.tell(m.Retry("c"))
    assert play.job.progress == pytest.approx(2 / 3, abs=1e-6)


def test_a_retry_of_a_failed_job_runs_what_has_not_succeeded_and_clears_its_error() -> None:
    play = Play(LINEAR)
    play.succeed("a")
    play.fail("b")
    assert reset(play) == ("b", "c")
    assert (play.job.error, play.job.expires_at, play.stage("b").tries) == (None, None, 0)
    assert completed(play).job.status == "completed"


def test_a_retry_of_a_cancelled_job_runs_what_has_not_succeeded() -> None:
    play = Play(DIAMOND)
    play.succeed("a")
    play.succeed("c")
    play.tell(m.Cancel())
    assert reset(play) == ("b", "d")


def test_a_retry_of_a_completed_job_runs_everything() -> None:
    assert reset(completed(Play(DIAMOND))) == ("a", "b", "c", "d")


def test_a_retry_of_a_completed_job_in_which_a_stage_failed_alone_runs_that_stage_and_what_needs_it() -> None:
    play = Play(DIAMOND)
    play.succeed("a")
    play.fail("c")
    assert reset(completed(play)) == ("c", "d")


def test_a_retry_from_a_late_stage_also_runs_what_never_got_done_before_it() -> None:
    play = Play(LINEAR)
    play.succeed("a")
    play.fail("b")
    assert reset(play, "c") == ("b", "c")
    assert next(iter(play.dispatches.values())).stage == "b"


def test_a_retry_from_one_instance_runs_it_and_the_join_alone() -> None:
    play = completed(Play(FAN), items=("x", "y", "z"))
    before = play.job
    assert reset(play, "clip:1") == ("clip:1", "join")
    assert (play.stage("clip:1").item, play.stage("clip:0")) == ("y", before.stages["clip:0"])
    assert [d.stage for d in play.dispatches.values()] == ["clip:1"]


def test_a_retry_from_the_name_of_a_fan_out_runs_all_its_instances() -> None:
    play = completed(Play(FAN), items=("x", "y"))
    assert reset(play, "clip") == ("clip:0", "clip:1", "join")
    assert [s.item for s in play.job.instances("clip")] == ["x", "y"]


def test_a_retry_from_the_source_of_a_fan_out_folds_it_up_and_fans_out_anew() -> None:
    play = completed(Play(FAN), items=("x", "y"))
    assert reset(play, "plan") == ("plan", "clip:0", "clip:1", "join")
    assert play.statuses() == {"plan": "dispatched", "clip": "waiting", "join": "waiting"}
    completed(play, items=("p", "q", "r"))
    assert [s.item for s in play.job.instances("clip")] == ["p", "q", "r"]


def test_a_retry_from_a_fan_out_that_was_skipped_may_complete_at_once() -> None:
    play = completed(Play(STRICT_FAN[:1] + STRICT_FAN[2:3]))
    assert types(play.tell(m.Retry("clip"))) == ["JobRetried", "StageExpanded", "JobCompleted"]
    assert list(play.timers) == ["expire"]


def test_a_retry_from_the_join_does_not_join_a_fan_out_of_which_nothing_succeeded() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    play.fail("clip:0")
    play.fail("clip:1")
    assert reset(play, "join") == ("clip:0", "clip:1", "join")


def test_a_retry_from_one_instance_leaves_another_that_failed_alone() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    play.fail("clip:0")
    completed(play)
    assert reset(play, "clip:1") == ("clip:1", "join")
    assert play.stage("clip:0").status == "failed"


@pytest.mark.parametrize("name", ["nobody", "clip:7", "clip:", ""])
def test_a_retry_from_a_stage_that_does_not_exist_is_refused(name: str) -> None:
    play = completed(Play(FAN), items=("x",))
    outcome = play.tell(m.Retry(name)).outcome
    assert (outcome.code, outcome.detail) == ("unknown_stage", "its stages are: plan, clip, clip:N, join")
    assert play.job.attempt == 1


def test_the_params_of_a_retry_are_merged_over_those_of_the_job() -> None:
    play = completed(Play(LINEAR, language="de", words=True))
    play.tell(m.Retry(params={"language": "en"}))
    assert play.job.params == {"language": "en", "words": True}


@pytest.mark.parametrize("status", ["queued", "running", "cancelling"])
def test_a_retry_before_the_end_is_refused(status: str) -> None:
    play = in_status(status)
    assert play is not None
    assert play.tell(m.Retry()).outcome.code == "job_active"


def test_a_retry_with_another_seq_than_the_jobs_is_refused() -> None:
    play = completed(Play(LINEAR))
    assert play.tell(m.Retry(if_match=play.job.seq - 1)).outcome.code == "precondition_failed"
    assert play.tell(m.Retry(if_match=play.job.seq)).outcome.ok


def test_a_report_from_the_attempt_before_is_refused() -> None:
    play = Play(LINEAR)
    play.claim("a")
    token = play.stage("a").token
    play.fail("a")
    play.tell(m.Retry())
    play.claim("a")
    assert play.tell(m.Succeeded("a", token)).outcome.code == "stale_report"
