"""The broker's Redis emptied, killed, away and frozen: dispatches are offered again, and none runs twice."""

from __future__ import annotations

import time
from typing import Any

from dramatiq import Message

from callsheet.actors.broker import ANSWER_SECONDS
from callsheet.actors.keys import PartitionKeys
from callsheet.jobs import messages as m
from tests.faults.conftest import PARTITIONS, Service, no_dispatch_ran_twice
from tests.waiting import eventually, within


def offered(service: Service) -> int:
    """Dispatches that the broker holds and nobody has fetched; how often each does not matter."""
    with service.broker.client() as broker:
        names: list[Any] = broker.lrange("dramatiq:cpu", 0, -1)
        found: list[Any] = broker.hmget("dramatiq:cpu.msgs", names) if names else []
        return len({tuple(Message.decode(raw).args) for raw in found if raw})


def noted(service: Service) -> int:
    return sum(int(service.client.hlen(PartitionKeys(n).dispatched)) for n in range(PARTITIONS))


def test_what_an_emptied_broker_has_lost_is_offered_again_within_seconds(service: Service) -> None:
    service.host().ready()
    service.submit(40)
    eventually(lambda: offered(service) == 40 and noted(service) == 40)
    with service.broker.client() as broker:
        broker.flushall()
    within(lambda: offered(service) == 40, 10.0)
    workers = service.workers()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)


def test_what_a_broker_has_lost_that_comes_back_from_an_older_copy_is_offered_again(service: Service) -> None:
    """As a server that saves now and then does, or a replica that was behind."""
    service.host().ready()
    service.submit(10)
    eventually(lambda: offered(service) == 10 and noted(service) == 10)
    with service.broker.client() as broker:
        broker.save()
    service.submit(30)
    eventually(lambda: offered(service) == 40 and noted(service) == 40)
    service.broker.restart(kill=True)
    workers = service.workers()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)


def test_what_was_fetched_is_offered_again_by_a_journal_that_has_begun_anew(service: Service) -> None:
    """It may have lost the claims of those who fetched it."""
    service.host().ready()
    service.submit(10)
    eventually(lambda: offered(service) == 10 and noted(service) == 10)
    with service.broker.client() as broker:
        broker.delete("dramatiq:cpu", "dramatiq:cpu.msgs")
    service.journal.restart(kill=True)
    within(lambda: offered(service) == 10, 15.0)
    workers = service.workers()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)


def test_a_broker_killed_and_emptied_under_load_costs_nothing(service: Service) -> None:
    service.host().ready()
    service.host().ready()
    workers = service.workers()
    for n in range(60):
        service.submit(1)
        if n in (20, 40):
            service.broker.restart(kill=True)
        elif n % 10 == 5:
            with service.broker.client() as broker:
                broker.flushall()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}
    no_dispatch_ran_twice(workers)


def test_a_host_that_starts_while_the_broker_is_away_performs_what_was_left(service: Service) -> None:
    """Accepted by a first host, left in the outbox, and performed by the second one once the broker is back."""
    service.broker.kill()
    first = service.host().ready()
    service.submit(20)
    outboxes = [PartitionKeys(n).outbox for n in range(PARTITIONS)]
    eventually(lambda: sum(service.client.hlen(outbox) for outbox in outboxes) == 20)
    first.kill()
    service.host().ready()
    eventually(lambda: "" not in service.owned())
    service.broker.start()
    eventually(lambda: offered(service) == 20)
    service.workers()
    service.all_end()
    assert {job.status for job in service.check().values()} == {"completed"}


def test_a_takeover_while_the_broker_is_away_for_a_moment_leaves_nothing_behind(service: Service) -> None:
    """The broker comes back as it was: nothing says that it was away but what waits in the outbox."""
    service.host().ready()
    first = service.host().ready()
    eventually(lambda: service.balanced(2))
    service.broker.pause()
    service.submit(20)
    outboxes = [PartitionKeys(n).outbox for n in range(PARTITIONS)]
    eventually(lambda: sum(service.client.hlen(outbox) for outbox in outboxes) == 20)
    first.kill()
    eventually(lambda: len(set(service.owned())) == 1 and "" not in service.owned())
    service.broker.resume()
    eventually(lambda: noted(service) == 20)
    service.workers()
    service.all_end()
    service.check()


def test_a_hanging_broker_costs_no_lease_and_no_cancel_waits_for_it(service: Service) -> None:
    host = service.host().ready()
    eventually(lambda: "" not in service.owned())
    jobs = service.submit(10)
    eventually(lambda: noted(service) == 10)
    service.broker.pause()
    service.submit(10)
    began = time.monotonic()
    for job in jobs:
        assert service.ask_cancel(job) == "ok"
        assert service.status(job) == "cancelled"
    assert time.monotonic() - began < len(jobs) * ANSWER_SECONDS / 2, "they wait for the broker"
    eventually(lambda: "" not in service.owned())
    service.broker.resume()
    service.workers()
    service.all_end()
    service.check()
    assert "partition lost" not in host.said()


def test_a_dispatch_delivered_many_times_is_granted_once(service: Service) -> None:
    service.host().ready()
    (job,) = service.submit(1)
    eventually(lambda: offered(service) == 1)
    outcomes = [service.jobs.ask(job, m.Claim("a", 2, f"w{n}")).ok for n in range(10)]
    assert outcomes == [True] + [False] * 9
    assert service.jobs.ask(job, m.Claim("a", 2, "w0")).ok, "asking again under the same name is safe"
    service.jobs.tell(job, m.Succeeded("a", 2))
    service.workers()
    service.all_end()
    service.check()
