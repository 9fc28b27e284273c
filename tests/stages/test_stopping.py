"""Stopping a stage: by a cancel, a deadline, a shutdown, and by the death of its worker."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from callsheet.actors.keys import INTERRUPTS, PartitionKeys, partition_of
from callsheet.actors.stages.run import StageRun, Tools
from callsheet.actors.stores.store import stage_folder
from callsheet.jobs.messages import Cancel, Claim, Stopped, Succeeded
from callsheet.pipelines.declare import OutputFile
from tests.servers import RedisServer
from tests.stages.conftest import Service, alive, group_of
from tests.waiting import eventually, within


def begun(service: Service) -> tuple[int, int, Path]:
    """The stage's process, the child it has started, its work folder."""
    pid, child, folder = service.marked("begun").split(" ", 2)
    return int(pid), int(child), Path(folder)


@pytest.mark.parametrize("trick", ["stuck", "deaf"])
def test_a_cancel_kills_the_stage_with_all_it_has_started_within_two_seconds(shared: Service, trick: str) -> None:
    job = shared.submit(trick)
    pid, _, folder = begun(shared)
    assert len(group_of(pid)) == {"stuck": 4, "deaf": 2}[trick]  # the stage, its guardian, its child and that one's
    shared.jobs.ask(job, Cancel())
    within(lambda: not group_of(pid), 2.0)
    assert shared.ended(job).status == "cancelled"
    eventually(lambda: not folder.exists())
    assert [e.type for e in shared.events(job)][-3:] == ["CancelRequested", "StageStopped", "JobCancelled"]
    assert shared.run("nothing").status == "completed"


def test_a_cancel_whose_interrupt_was_lost_is_found_by_looking(service: Service) -> None:
    service.worker()
    service.host._performer._redis.publish = lambda *_: 0
    job = service.submit("stuck")
    pid, _, _ = begun(service)
    service.jobs.ask(job, Cancel())
    within(lambda: not group_of(pid), 2.0)
    assert service.ended(job).status == "cancelled"


def test_a_stage_past_its_deadline_is_killed(shared: Service) -> None:
    job = shared.submit("deaf", pipeline="hasty")
    pid, _, folder = begun(shared)
    ended = shared.ended(job)
    assert ended.error is not None
    assert ended.error.code == "stage_deadline"
    within(lambda: not group_of(pid) and not folder.exists(), 3.0)


def test_an_interrupt_of_another_token_stops_nothing(shared: Service) -> None:
    job = shared.submit("gated_write")
    shared.marked("begun")
    for other in (f"{job} act 3", f"{job} other 2", f"{'0' * 32} act 2", "nonsense"):
        eventually(lambda other=other: shared.host._redis.publish(INTERRUPTS, other))  # type: ignore[misc]
    shared.workers[0].until("not an interrupt")  # the last of them: the others were heard
    shared.mark("go")
    assert shared.ended(job).status == "completed"
    assert len(shared.events(job, "StageStarted")) == 1


def test_an_interrupt_of_its_token_stops_a_stage_at_which_nobody_would_have_looked(shared: Service) -> None:
    job = shared.submit("gated_write")
    shared.marked("begun")
    eventually(lambda: shared.host._redis.publish(INTERRUPTS, f"{job} act 2"))
    eventually(lambda: len(shared.events(job, "StageStarted")) == 2, why="it runs on")
    shared.mark("go")
    assert shared.ended(job).status == "completed"


def test_a_worker_that_is_told_to_stop_gives_its_stage_back_and_leaves_nothing(service: Service) -> None:
    first = service.worker()
    job = service.submit("gated_write")
    folder = Path(service.marked("begun"))
    family = [p.pid for p in first.family()]
    second = service.worker()
    first.signal(signal.SIGTERM)
    assert first.ends_within(8.0) == 0
    eventually(lambda: alive(*family) == [])
    assert not folder.exists()
    service.mark("go")
    assert service.ended(job).status == "completed"
    types = [e.type for e in service.events(job)]
    assert (types.count("StageStopped"), types.count("StageFailed")) == (1, 0)
    second.signal(signal.SIGTERM)
    assert second.ends_within(8.0) == 0
    assert list((service.settings.data / "work").iterdir()) == []


def test_stages_that_wait_in_a_stopping_worker_go_to_others(service: Service) -> None:
    first = service.worker()
    jobs = [service.submit("gated_write") for _ in range(4)]
    service.marked("begun")
    first.signal(signal.SIGTERM)
    first.ends(30.0)
    service.mark("go")
    service.worker()
    for job in jobs:
        assert service.ended(job).status == "completed"


def test_a_killed_workers_stage_dies_with_all_it_has_started_and_is_run_again_elsewhere(watchful: Service) -> None:
    """It is offered again within 15 s of the kill; how soon it runs depends on who is there to run it."""
    worker = watchful.worker()
    job = watchful.submit("stuck")
    pid, child, folder = begun(watchful)
    members = group_of(pid)
    assert {pid, child} < set(members)
    worker.signal(signal.SIGKILL)
    killed = time.time()
    worker.ends(30.0)
    within(lambda: not alive(*members), 2.0)
    assert folder.exists()
    (watchful.marks / "begun").unlink()
    watchful.worker()
    eventually(lambda: not folder.exists())
    assert begun(watchful)[0] != pid
    offered = [datetime.fromisoformat(e.at).timestamp() for e in watchful.events(job, "StageDispatched")]
    assert offered[1] - killed < 15.0
    assert len(watchful.events(job, "StageStarted")) >= 2
    watchful.jobs.ask(job, Cancel())
    assert watchful.ended(job).status == "cancelled"


def test_a_running_worker_removes_what_a_killed_one_left(service: Service) -> None:
    killed, other = service.worker(), service.worker("io")
    service.submit("stuck")
    folder = begun(service)[2]
    killed.signal(signal.SIGKILL)
    eventually(lambda: not folder.exists())
    assert other.process.poll() is None


def test_a_paused_worker_comes_back_too_late_and_stops_its_stage(watchful: Service) -> None:
    paused = watchful.worker()
    job = watchful.submit("gated_write")
    pid = next(p.pid for p in paused.family() if "child_main" in " ".join(p.cmdline()))
    watchful.marked("begun")
    paused.signal(signal.SIGSTOP)
    watchful.worker()
    eventually(lambda: len(watchful.events(job, "StageStarted")) >= 2)
    paused.signal(signal.SIGCONT)
    eventually(lambda: not group_of(pid))
    watchful.mark("go")
    assert watchful.ended(job).status == "completed"
    eventually(lambda: len(watchful.published(job)) == 1)


def test_a_paused_workers_stage_that_ends_too_late_leaves_the_files_that_count(watchful: Service) -> None:
    slow = watchful.worker()
    job = watchful.submit("gated_write")
    watchful.marked("begun")
    slow.signal(signal.SIGSTOP)  # the stage's process goes on and ends, its supervisor does not see it
    watchful.worker()
    eventually(lambda: len(watchful.events(job, "StageStarted")) >= 2)
    watchful.mark("go")
    (kept,) = watchful.ended(job).artifacts
    slow.signal(signal.SIGCONT)
    slow.until("stage over")
    eventually(lambda: watchful.published(job) == [kept.folder])
    assert watchful.store.path(job, kept.folder, "words.txt").read_text() == "hello"


def test_the_success_of_a_stage_that_was_given_away_removes_its_own_files_only(
    service: Service, tmp_path: Path
) -> None:
    job = service.submit()

    def claimed(after: int, worker: str) -> int:
        def dispatched() -> int:
            _, state = service.jobs.stage(job, "act")
            return state.token if state and state.status == "dispatched" and state.token > after else 0

        token = eventually(dispatched)
        assert service.jobs.ask(job, Claim("act", token, worker)).ok
        return token

    def success(token: int) -> Succeeded:
        work = tmp_path / f"work-{token}"
        work.mkdir()
        (work / "words.txt").write_text("hello")
        files = [OutputFile("words.txt", "text/plain")]
        return Succeeded("act", token, service.store.publish(job, stage_folder(token, "act"), work, files))

    mine = claimed(0, "mine")
    service.jobs.tell(job, Stopped("act", mine, "shutdown"))
    others = claimed(mine, "another")
    assert service.jobs.ask(job, success(others)).ok
    unused: Any = None
    tools = Tools(service.jobs, service.store, unused, unused, 1.0, lambda: "mine", unused, unused)
    run = StageRun(tools, job, "act", mine, "mine")
    run._finish(success(mine))
    run.sign.close()
    assert service.published(job) == [stage_folder(others, "act")]


def test_a_second_delivery_that_is_told_to_stop_before_it_knows_leaves_the_stage_to_who_has_claimed_it(
    service: Service,
) -> None:
    job = service.submit()
    token = eventually(lambda: service.jobs.stage(job, "act")[1].token)  # type: ignore[union-attr]
    assert service.jobs.ask(job, Claim("act", token, "another")).ok
    unused: Any = None
    tools = Tools(service.jobs, service.store, unused, unused, 1.0, lambda: "second", unused, unused)
    run = StageRun(tools, job, "act", token)
    run.sign.give("shutdown")
    assert run.run() is False
    assert service.jobs.ask(job, Claim("act", token, "another")).ok  # after what the other has said; it runs here still


def test_a_success_arrives_although_the_journal_was_restarted_in_mid_stage(
    fragile: tuple[Service, RedisServer, RedisServer],
) -> None:
    service, journal, _ = fragile
    service.worker()
    job = service.submit("gated_write")
    service.marked("begun")
    journal.kill()
    service.mark("go")
    journal.start()
    assert service.ended(job).status == "completed"
    eventually(lambda: len(service.published(job)) == 1)


def test_a_dispatch_survives_the_absence_of_the_journal_before_its_claim(
    fragile: tuple[Service, RedisServer, RedisServer],
) -> None:
    service, journal, _ = fragile
    job = service.submit("nothing")
    worker = service.worker()
    assert service.ended(job).status == "completed"
    second = service.submit("gated_write")
    service.marked("begun")
    third = service.submit("nothing")
    journal.pause()
    service.mark("go")
    worker.until("wait")
    journal.resume()
    for one in (second, third):
        assert service.ended(one).status == "completed"


def test_a_dispatch_that_could_not_be_claimed_before_a_shutdown_goes_to_others(
    fragile: tuple[Service, RedisServer, RedisServer],
) -> None:
    service, journal, _ = fragile
    job = service.submit("nothing")
    offered = PartitionKeys(partition_of(job, service.settings.partitions)).dispatched
    with journal.client() as client:
        eventually(lambda: client.hlen(offered) == 1)  # its owner will not offer it again
    journal.kill()
    worker = service.start_worker()
    worker.until("waiting for an answer", 60.0)
    worker.signal(signal.SIGTERM)
    assert worker.ends(30.0) == 0
    journal.start()
    service.worker()
    assert service.ended(job).status == "completed"


def test_a_dispatch_survives_the_loss_of_the_broker(fragile: tuple[Service, RedisServer, RedisServer]) -> None:
    service, _, broker = fragile
    job = service.submit("nothing")
    eventually(lambda: [e.type for e in service.events(job)].count("StageDispatched") == 1)
    broker.restart(kill=True)
    service.worker()
    assert service.ended(job).status == "completed"


@pytest.mark.parametrize("point", ["received", "claimed", "published", "reported"])
def test_a_worker_killed_at_any_step_costs_no_job_and_leaves_no_torn_file(watchful: Service, point: str) -> None:
    job = watchful.submit("write")
    doomed = watchful.start_worker(failpoints=f"worker.{point}")
    assert doomed.ends(60.0) == -signal.SIGKILL
    watchful.worker()
    ended = watchful.ended(job)
    assert ended.status == "completed"
    (ref,) = ended.artifacts
    assert watchful.store.path(job, ref.folder, ref.name).read_text() == "hello"
    eventually(lambda: watchful.published(job) == [ref.folder])
    eventually(lambda: watchful.in_work() == [])
