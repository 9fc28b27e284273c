"""The journal's Redis killed, cut short, forgetful, frozen and full, under load: I6 after, hosts recover alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from callsheet.actors.errors import Unavailable
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.jobs import messages as m
from tests.actors.kit import ENDED, check_job, submission
from tests.faults.conftest import PARTITIONS, Service, no_dispatch_ran_twice
from tests.http.service import Api
from tests.servers import RedisServer
from tests.small_disk import SmallDisk
from tests.waiting import eventually


@contextmanager
def load(service: Service, pause: float = 0.01) -> Iterator[None]:
    """Submissions, one after the other, until the end of the block."""
    stop = threading.Event()

    def submit() -> None:
        while not stop.wait(pause):
            service.submit(1)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def more(service: Service, count: int) -> Callable[[], bool]:
    """Whether so many more submissions were accepted since now."""
    then = len(service.accepted)
    return lambda: len(service.accepted) >= then + count


def test_away_for_longer_than_a_worker_may_be_silent_it_costs_no_stage_that_runs(service: Service) -> None:
    service.host().ready()
    (job,) = service.submit(1)
    token = eventually(lambda: found.stages["a"].token if (found := service.jobs.job(job)) else None)
    assert service.jobs.ask(job, m.Claim("a", token, "w")).ok
    timers, alive = service.keys(job).timers, f"{job}|alive:a"
    due = service.client.zscore(timers, alive)
    service.journal.kill()
    threading.Event().wait(9.0)  # the length of the outage; a worker is lost after 4 seconds
    service.journal.start()
    eventually(lambda: service.client.zscore(timers, alive) != due, why="the timer does not fire")
    assert service.jobs.ask(job, m.Succeeded("a", token)).ok, "its work was for nothing"


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_killed_and_restarted_under_load_it_has_all_it_accepted(service: Service, seconds: float) -> None:
    hosts = [service.host().ready(), service.host().ready()]
    eventually(lambda: service.balanced(2))
    workers = service.workers()
    with load(service):
        for _ in range(2):
            eventually(more(service, 25))
            service.journal.kill()
            threading.Event().wait(seconds)  # the length of the outage, not a wait for something
            service.journal.start()
        eventually(more(service, 25))
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)
    assert all(host.alive for host in hosts)
    assert all(host.said().count("effects wait") <= 2 for host in hosts), "an outage is told more than once"
    assert service.unavailable > 0 or seconds == 0.0, "the load did not notice"


def test_meanwhile_clients_are_told_that_it_is_unavailable(service: Service) -> None:
    service.host().ready()
    (job,) = service.submit(1)
    service.journal.kill()
    for call in (
        lambda: service.jobs.tell(new_job_id(), submission()),
        lambda: service.jobs.ask(job, submission(job)),
        lambda: service.jobs.job(job),
        lambda: service.jobs.events(job),
    ):
        with pytest.raises(Unavailable):
            call()
    service.journal.start()
    service.workers()
    service.all_end()
    service.check()


def test_frozen_it_answers_nobody_and_then_goes_on(service: Service) -> None:
    service.host(lease=2.0).ready()
    workers = service.workers()
    with load(service):
        eventually(more(service, 20))
        service.journal.pause()
        threading.Event().wait(3.0)  # longer than the lease
        service.journal.resume()
        eventually(more(service, 20))
    service.all_end()
    service.check()
    no_dispatch_ran_twice(workers)


def test_with_the_tail_of_its_log_cut_off_it_starts_and_nobody_writes_a_gap(service: Service) -> None:
    """What was acknowledged after the cut is gone with the disk's word; what is left must still be sound."""
    service.host().ready()
    service.workers()
    with load(service):
        for cut in (1, 700, 3_001):
            eventually(more(service, 15))
            service.journal.kill()
            newest = service.journal.append_only_files()[-1]
            with newest.open("r+b") as file:
                file.truncate(max(100, newest.stat().st_size - cut))
            service.journal.start()
    service.submit(5)
    eventually(lambda: not any(service.client.xlen(PartitionKeys(n).mailbox) for n in range(PARTITIONS)))
    eventually(lambda: all(service.status(job) in ("absent", *ENDED) for job in service.accepted), 60.0)
    left = [job for job in service.accepted if service.status(job) != "absent"]
    assert set(left) >= set(service.accepted[-5:])
    assert len(left) > len(service.accepted) // 2
    for job in left:
        assert check_job(service.client, service.keys(job), job).status == "completed"


def test_scripts_flushed_under_load_are_loaded_again(service: Service) -> None:
    host = service.host().ready()
    eventually(lambda: "" not in service.owned())
    workers = service.workers()
    with load(service):
        for _ in range(50):
            service.client.script_flush()
            eventually(more(service, 1))
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)
    assert "partition lost" not in host.said()


def test_full_it_refuses_and_once_there_is_room_everything_goes_on(service: Service) -> None:
    service.host().ready()
    workers = service.workers()
    with load(service):
        eventually(more(service, 20))
        service.client.config_set("maxmemory", service.client.info("memory")["used_memory"] // 2)
        before = service.unavailable
        eventually(lambda: service.unavailable > before + 5)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            service.client.set("x", "y")
        for job in list(service.accepted):
            if service.status(job) not in ("absent", "unavailable"):
                check_job(service.client, service.keys(job), job)
        service.client.config_set("maxmemory", 0)
        eventually(more(service, 20))
    service.all_end()
    service.check()
    no_dispatch_ran_twice(workers)


@pytest.fixture
def disk(make_disk: Callable[[Path, int], SmallDisk], tmp_path: Path) -> SmallDisk:
    """The disk of the journal, if that is the first server that is made."""
    return make_disk(tmp_path / "redis-0", 32 << 20)


def dead(server: RedisServer) -> bool:
    return bool(psutil.Process(server.pid).status() == psutil.STATUS_ZOMBIE)


def test_its_disk_full_it_ends_and_with_room_again_it_has_all_it_accepted(
    disk: SmallDisk, service: Service, tmp_path: Path
) -> None:
    """With `appendfsync always` the server ends rather than answer what it could not write."""
    host = service.host().ready()
    workers = service.workers()
    addresses = {"redis_url": service.journal.url, "broker_url": service.broker.url}
    api = Api(tmp_path / "api.log", data=str(tmp_path / "data"), pipelines="tests.http.sample:pipeline", **addresses)
    try:
        api.wait()
        with load(service):
            eventually(more(service, 25))
            disk.fill(leave=64 << 10)
            eventually(lambda: dead(service.journal), why="it goes on without a disk")
            for answer in (api.submit(), httpx.get(f"{api.url}/v1/jobs/{service.accepted[0]}", timeout=60)):
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) > 0
            assert httpx.get(f"{api.url}/readyz", timeout=60).status_code == 503
            assert api.files() == []
            disk.empty()
            service.journal.restart()
            eventually(more(service, 25))
        api.wait()
        answer = api.submit()
        assert answer.status_code == 202
        service.accepted.append(answer.json()["id"])
        service.all_end()
        service.check()
    finally:
        api.kill()
    no_dispatch_ran_twice(workers)
    assert host.alive
    assert service.unavailable > 0
