"""The flow of a pipeline: what runs when, fan-out and join, and how the job ends."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.effects import Dispatch, SetTimer, Tidy, Withdraw
from callsheet.jobs.evolve import evolve
from callsheet.jobs.graph import MAX_FAN_OUT, StageSpec
from callsheet.jobs.job import InputRef
from callsheet.jobs.rules import as_submitted, decide
from tests.jobs.kit import DIAMOND, FAN, HOOK, LINEAR, START, STRICT_FAN, Play, body, output, submission, types


def test_a_submission_dispatches_what_needs_nothing_under_a_token_that_is_the_seq_of_the_dispatch() -> None:
    play = Play(LINEAR, language="de")
    assert [event.type for event in play.watch.events] == ["JobSubmitted", "StageDispatched"]
    assert play.dispatches == {2: Dispatch("a", 2, "cpu")}
    assert (play.job.status, play.job.attempt, play.job.params) == ("queued", 1, {"language": "de"})
    assert play.statuses() == {"a": "dispatched", "b": "waiting", "c": "waiting"}


def test_until_it_is_written_a_job_reads_as_it_will_with_its_first_event_but_at_seq_0() -> None:
    message = submission(LINEAR, callback_url=HOOK, language="de")
    (submitted, *_) = decide(None, message, START).events
    assert as_submitted(message, START) == replace(evolve(None, submitted), seq=0)


def test_a_claim_starts_the_stage_withdraws_the_dispatch_and_sets_both_its_timers() -> None:
    play = Play(LINEAR)
    decision = play.claim("a", "w7")
    assert types(decision) == ["StageStarted"]
    assert Withdraw(2) in decision.effects
    assert play.timers == {
        "alive:a": SetTimer("alive:a", 2, START + 8_000),
        "deadline:a": SetTimer("deadline:a", 2, START + 3_600_000),
    }
    assert (play.job.status, play.stage("a").worker) == ("running", "w7")


def test_a_claim_is_granted_again_to_the_same_delivery_and_refused_to_another() -> None:
    play = Play(LINEAR)
    play.claim("a", "w1")
    again, other = play.claim("a", "w1"), play.claim("a", "w2")
    assert (again.outcome.ok, again.events) == (True, ())
    assert (other.outcome.ok, other.outcome.code) == (False, "stale_report")


def test_a_linear_pipeline_runs_in_order_and_completes() -> None:
    play = Play(LINEAR)
    assert types(play.succeed("a")) == ["StageSucceeded", "StageDispatched"]
    assert types(play.succeed("b")) == ["StageSucceeded", "StageDispatched"]
    assert [d.queue for d in play.dispatches.values()] == ["io"]
    play.claim("c")
    assert types(play.succeed("c")) == ["StageSucceeded", "JobCompleted"]
    assert (play.job.status, play.job.progress) == ("completed", 1.0)
    assert play.watch.whole() == play.job


def test_a_diamond_runs_its_sides_at_once_and_joins_when_both_are_done() -> None:
    play = Play(DIAMOND)
    play.succeed("a")
    assert play.statuses() == {"a": "succeeded", "b": "dispatched", "c": "dispatched", "d": "waiting"}
    play.succeed("c")
    assert play.stage("d").status == "waiting"
    play.succeed("b")
    assert play.stage("d").status == "dispatched"


def test_the_progress_of_the_job_is_the_weighted_mean_of_its_stages() -> None:
    play = Play(DIAMOND)  # weights 1, 3, 1, 1
    play.succeed("a")
    assert play.job.progress == pytest.approx(1 / 6, abs=1e-6)
    play.claim("b")
    play.tell(m.Progress("b", play.stage("b").token, 1, 0.5))
    assert play.job.progress == pytest.approx(2.5 / 6, abs=1e-6)


def test_a_fan_out_becomes_one_stage_an_item_and_its_join_waits_for_all() -> None:
    play = Play(FAN)
    play.claim("plan")
    decision = play.succeed("plan", items=("x", "y"))
    assert types(decision) == ["StageSucceeded", "StageExpanded", "StageDispatched", "StageDispatched"]
    assert [(s.name, s.spec, s.item) for s in play.job.instances("clip")] == [
        ("clip:0", "clip", "x"),
        ("clip:1", "clip", "y"),
    ]
    assert list(play.job.stages) == ["plan", "clip:0", "clip:1", "join"]
    play.succeed("clip:1")
    assert play.stage("join").status == "waiting"
    play.succeed("clip:0")
    assert play.stage("join").status == "dispatched"


def test_the_instances_of_a_fan_out_share_its_weight() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    play.succeed("clip:0")
    assert play.job.progress == pytest.approx(1.5 / 3, abs=1e-6)


@pytest.mark.parametrize("items", [(), None], ids=["empty", "none"])
def test_a_fan_out_over_no_items_is_skipped_and_its_join_runs(items: tuple[str, ...] | None) -> None:
    play = Play(FAN)
    play.succeed("plan", items=items)
    assert play.statuses() == {"plan": "succeeded", "clip": "skipped", "join": "dispatched"}
    play.succeed("join")
    assert play.job.status == "completed"


def test_a_fan_out_over_a_stage_that_failed_alone_is_skipped() -> None:
    play = Play(STRICT_FAN)
    play.fail("plan")
    play.succeed("side")
    assert play.statuses() == {"plan": "failed", "side": "succeeded", "clip": "skipped", "join": "dispatched"}


def test_a_fan_out_beyond_the_bound_fails_the_stage_for_good() -> None:
    play = Play(FAN)
    play.claim("plan")
    decision = play.succeed("plan", items=tuple(range(MAX_FAN_OUT + 1)))
    assert types(decision) == ["StageFailed", "JobFailed"]
    assert body(decision, e.JobFailed).code == "fan_out_too_large"


def test_a_fan_out_at_the_bound_is_dispatched_whole() -> None:
    play = Play(FAN)
    play.succeed("plan", items=tuple(range(MAX_FAN_OUT)))
    assert len(play.dispatches) == MAX_FAN_OUT


def test_an_instance_that_may_fail_fails_alone_and_the_job_completes_at_full_progress() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    assert types(play.fail("clip:0")) == ["StageFailed"]
    play.succeed("clip:1")
    play.succeed("join")
    assert (play.job.status, play.job.progress) == ("completed", 1.0)
    assert play.stage("clip:0").error is not None


def test_the_job_fails_when_every_instance_of_a_fan_out_that_may_fail_has_failed() -> None:
    play = Play(FAN)
    play.succeed("plan", items=("x", "y"))
    play.fail("clip:0")
    play.claim("clip:1")
    assert types(play.fail("clip:1")) == ["StageFailed", "JobFailed"]
    assert play.job.error is not None
    assert (play.job.error.code, play.job.error.stage) == ("broken", "clip:1")


def test_a_stage_that_may_fail_fails_alone_and_what_needs_it_runs() -> None:
    play = Play(DIAMOND)
    play.succeed("a")
    play.succeed("b")
    play.fail("c")
    assert play.stage("d").status == "dispatched"


def test_a_stage_that_fails_for_good_ends_the_job_and_stops_what_else_runs() -> None:
    play = Play(DIAMOND)
    play.succeed("a")
    play.claim("c")
    play.claim("b")
    decision = play.fail("b")
    assert types(decision) == ["StageFailed", "StageStopped", "JobFailed"]
    assert body(decision, e.StageStopped).reason == "job_failed"
    assert play.statuses() == {"a": "succeeded", "b": "failed", "c": "stopped", "d": "waiting"}


def test_the_end_keeps_the_folders_of_what_succeeded_and_sets_the_expiry() -> None:
    play = Play(LINEAR, policy=Policy(retention=1_000))
    play.claim("a")
    published = output(play, "a", "sound.wav")
    play.succeed("a", outputs=(published,))
    play.claim("b")
    decision = play.fail("b")
    assert Tidy((published.folder,), play.job.seq) in decision.effects
    assert play.timers == {"expire": SetTimer("expire", 1, START + 1_000)}
    assert play.job.expires_at == "2023-11-14T22:13:21.000Z"


def test_artifacts_and_results_are_those_of_the_stages_that_succeeded_in_their_order() -> None:
    play = Play(LINEAR)
    for name in "ab":
        play.claim(name)
        play.succeed(name, outputs=(output(play, name, f"{name}.txt"),), result={"warnings": [name], "last": name})
    assert [ref.name for ref in play.job.artifacts] == ["a.txt", "b.txt"]
    assert play.job.result == {"warnings": ["a", "b"], "last": "b"}


def test_facts_found_about_the_input_are_shown_and_those_of_a_wrong_kind_are_not() -> None:
    play = Play(LINEAR)
    play.succeed("a", input={"duration": 11.5, "media_type": 5, "sha256": "forged", "filename": "/etc/passwd"})
    assert (play.job.input.duration, play.job.input.media_type) == (11.5, "audio/mpeg")
    assert (play.job.input.filename, play.job.input.sha256) == ("talk.mp3", "ab" * 32)


def test_only_the_stage_that_fetches_says_what_the_input_is_and_only_of_an_address() -> None:
    found = {"bytes": 5, "sha256": "cd" * 32, "filename": "talk.mp4", "source_url": "http://other.example/"}
    graph = (StageSpec("fetch"), StageSpec("a", ("fetch",)))
    address = InputRef("talk", 0, "", "application/octet-stream", source_url="http://a.example/talk")
    for given, after in ((address, replace(address, bytes=5, sha256="cd" * 32, filename="talk.mp4")), (None, None)):
        play = Play(graph)
        if given is not None:
            play.current = replace(play.job, input=given)
        before = play.job.input
        play.succeed("fetch", input=found)
        assert play.job.input == (after or before)
        play.succeed("a", input=found | {"bytes": 6})
        assert play.job.input == (after or before)


def test_a_fan_out_over_an_empty_source_may_be_the_end_of_the_job() -> None:
    play = Play((StageSpec("plan"), StageSpec("clip", ("plan",), each="plan")))
    play.succeed("plan", items=())
    assert play.job.status == "completed"
