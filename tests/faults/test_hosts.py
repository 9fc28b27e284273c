"""Hosts that die at every step, freeze past their lease, come and go under load: I1 to I6, I15."""

from __future__ import annotations

import threading

import pytest

from callsheet.jobs import messages as m
from tests.faults.conftest import Service, no_dispatch_ran_twice
from tests.waiting import eventually, within

POINTS = ["host.read=17", "host.decided=11", "host.committed=13", "host.performed=5", "host.marked=7"]


@pytest.mark.parametrize("failpoint", POINTS)
def test_a_host_killed_at_any_step_is_followed_by_another_and_nothing_is_lost(service: Service, failpoint: str) -> None:
    dying = service.host(failpoints=failpoint).ready()
    eventually(lambda: "" not in service.owned())
    workers = service.workers()
    service.submit(30)
    eventually(lambda: not dying.alive, why="the failpoint was never reached")
    service.host().ready()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)


def test_another_host_takes_over_within_ten_seconds(service: Service) -> None:
    """With the lease that hosts have unless told otherwise."""
    first, second = service.host(lease=5.0).ready(), service.host(lease=5.0).ready()
    eventually(lambda: service.balanced(2))
    gone = {host: service.owned().count(host) for host in set(service.owned())}
    first.kill()
    within(lambda: len(set(service.owned())) == 1 and "" not in service.owned(), 10.0)
    assert sorted(gone.values()) == [8, 8]
    service.workers()
    service.submit(16)
    service.all_end()
    service.check()
    assert second.alive


def test_a_host_frozen_past_its_lease_is_fenced_steps_down_and_gets_its_share_back(service: Service) -> None:
    frozen, other = service.host().ready(), service.host().ready()
    eventually(lambda: service.balanced(2))
    workers = service.workers()
    stop = threading.Event()

    def load() -> None:
        while not stop.wait(0.02):
            service.submit(1)

    loader = threading.Thread(target=load)
    loader.start()
    eventually(lambda: len(service.accepted) > 20)
    frozen.pause()
    eventually(lambda: len(set(service.owned())) == 1 and "" not in service.owned())
    seen = len(service.accepted)
    eventually(lambda: len(service.accepted) > seen + 20)
    frozen.resume()
    eventually(lambda: "partition lost" in frozen.said(), why="it does not notice that it was overtaken")
    eventually(lambda: service.balanced(2), why="the partitions are not shared again")
    stop.set()
    loader.join()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)
    assert other.alive
    assert frozen.alive


def test_a_rolling_restart_under_load_refuses_and_loses_nothing(service: Service) -> None:
    hosts = [service.host().ready(), service.host().ready()]
    eventually(lambda: service.balanced(2))
    workers = service.workers()
    stop = threading.Event()
    told: list[str] = []

    def load() -> None:
        while not stop.wait(0.01):
            (job,) = service.submit(1)
            if len(service.accepted) % 3 == 0:
                told.append(service.ask_cancel(job))

    loader = threading.Thread(target=load)
    loader.start()
    for host in hosts:
        before = len(service.accepted)
        eventually(lambda n=before: len(service.accepted) > n + 20)  # type: ignore[misc]
        assert host.terminate() == 0
        service.host().ready()
        eventually(lambda: service.balanced(2))
    stop.set()
    loader.join()
    service.all_end()
    jobs = service.check()
    assert service.unavailable == 0, "a submission was refused"
    assert {job.status for job in jobs.values()} == {"completed", "cancelled"}
    assert set(told) <= {"ok", "job_ended"}, "a cancel was not answered"
    no_dispatch_ran_twice(workers)


def test_a_second_host_takes_its_share_of_a_host_with_a_backlog_without_a_loss(service: Service) -> None:
    """The first one goes on renewing what it keeps while it finishes what it hands over, which takes longer than a
    lease; and a lease is longer than a busy machine stands still.
    """
    first = service.host(lease=3.0, capacity=20_000).ready()
    eventually(lambda: "" not in service.owned())
    jobs = service.submit(20)
    pipe = service.client.pipeline(transaction=False)
    beat = {"mid": "", "body": m.encode_message(m.Heartbeat("a", 1)), "reply": ""}
    for n in range(20_000):
        pipe.xadd(service.keys(jobs[n % 20]).mailbox, {"job": jobs[n % 20], **beat})
    pipe.execute()
    service.host(lease=3.0).ready()
    eventually(lambda: service.balanced(2))
    service.workers()
    service.all_end()
    service.check()
    assert "partition lost" not in first.said()
