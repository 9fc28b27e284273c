"""A tenant's limit of active jobs queues: the oldest that have not ended are at work, the others wait for it."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.host import Host
from callsheet.actors.journal import OutboxItem
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.actors.tenants.admission import Admission
from callsheet.actors.tenants.limits import OwnLimits, Tenants, limits_of
from callsheet.config.settings import Settings
from callsheet.jobs.effects import Dispatch
from callsheet.jobs.messages import Cancel, Claim, Failed, Retry, Succeeded
from tests.actors.kit import ENDED, ONE, submission
from tests.servers import RedisServer
from tests.waiting import eventually

PARTITIONS = 4


@pytest.fixture
def limited(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_active_jobs": 2, "partitions": PARTITIONS})


@pytest.fixture
def make_host(limited: Settings) -> Iterator[Callable[[], Host]]:
    hosts: list[Host] = []

    def make() -> Host:
        host = Host(limited)
        hosts.append(host)
        host.start()
        return host

    yield make
    for host in hosts:
        if not host._stopping.is_set():
            host.stop()


@pytest.fixture
def jobs(limited: Settings) -> Iterator[BlockingJobs]:
    jobs = BlockingJobs(limited.journal, partitions=PARTITIONS, reply_timeout=20)
    yield jobs
    jobs.close()


@pytest.fixture
def client(journal_server: RedisServer) -> Iterator[Any]:
    with journal_server.client() as client:
        yield client


def submit(jobs: BlockingJobs, count: int) -> list[str]:
    made = [new_job_id() for _ in range(count)]
    for job in made:
        assert jobs.ask(job, submission(job, ONE)).ok
    return made


def offered(client: Any) -> set[str]:
    """The jobs whose stage the broker has been given, and no worker has claimed."""
    return {
        name.decode().partition("|")[0]
        for number in range(PARTITIONS)
        for name in client.hkeys(PartitionKeys(number).dispatched)
    }


def kept_back(client: Any) -> int:
    return sum(client.hlen(PartitionKeys(number).outbox) for number in range(PARTITIONS))


def open_jobs(client: Any) -> list[str]:
    """The tenant's jobs that have not ended, the oldest first."""
    rows = [client.zrange(PartitionKeys(n).open("t1"), 0, -1, withscores=True) for n in range(PARTITIONS)]
    return [job.decode() for job, _ in sorted(itertools.chain(*rows), key=lambda row: row[1])]


def token_of(jobs: BlockingJobs, job: str) -> int:
    _, state = jobs.stage(job, "a")
    assert state is not None
    return state.token


def run(jobs: BlockingJobs, job: str, *, fails: bool = False) -> None:
    token = token_of(jobs, job)
    assert jobs.ask(job, Claim("a", token, "w")).ok
    ending = Failed("a", token, "broken", "it broke") if fails else Succeeded("a", token)
    assert jobs.ask(job, ending).ok


def wait_for_offers(client: Any, jobs: list[str]) -> None:
    """Until the broker has the stages of just these jobs."""
    eventually(lambda: offered(client) == set(jobs))


def some_offered(client: Any, count: int) -> set[str]:
    """The jobs whose stage the broker has, once there are so many."""
    return eventually(lambda: now if len(now := offered(client)) == count else None)


def test_the_oldest_are_at_work_and_each_end_lets_the_next_one_in(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any
) -> None:
    make_host()
    made = submit(jobs, 7)
    assert open_jobs(client) == made
    eventually(lambda: offered(client) == set(made[:2]))
    assert [jobs.stage(job, "a")[0] for job in made] == ["queued"] * 7
    for n, fails in enumerate([False, True, False]):
        run(jobs, made[n], fails=fails)
        wait_for_offers(client, made[n + 1 : n + 3])
        assert open_jobs(client) == made[n + 1 :]
    assert kept_back(client) >= 2


def test_who_is_cancelled_while_it_waits_never_runs_and_holds_up_nobody(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any
) -> None:
    make_host()
    made = submit(jobs, 5)
    eventually(lambda: offered(client) == set(made[:2]))
    assert jobs.ask(made[2], Cancel()).ok
    assert jobs.ask(made[0], Cancel()).ok
    eventually(lambda: offered(client) == {made[1], made[3]})
    assert jobs.ask(made[0], Retry()).ok  # it goes to the end of the queue
    run(jobs, made[1])
    eventually(lambda: offered(client) == {made[3], made[4]})
    run(jobs, made[3])
    eventually(lambda: offered(client) == {made[4], made[0]})


def test_whoever_takes_over_goes_on_in_the_same_order(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any
) -> None:
    first = make_host()
    made = submit(jobs, 6)
    eventually(lambda: offered(client) == set(made[:2]))
    first.stop()
    make_host()
    run(jobs, made[0])
    eventually(lambda: offered(client) == {made[1], made[2]})


def test_over_hosts_there_are_never_more_at_work_and_all_get_their_turn(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any
) -> None:
    hosts = [make_host(), make_host()]
    eventually(lambda: all(len(host.owned) == PARTITIONS // 2 for host in hosts))
    made = submit(jobs, 10)
    order = random.Random(7)
    for left in range(10, 0, -1):
        ready = some_offered(client, min(2, left))
        assert ready <= set(open_jobs(client)[:2])
        run(jobs, order.choice(sorted(ready)), fails=order.random() < 0.3)
    assert {jobs.stage(job, "a")[0] for job in made} <= set(ENDED)
    eventually(lambda: (open_jobs(client), kept_back(client)) == ([], 0))


def test_a_tenants_own_limit_counts_and_lifting_it_lets_all_in(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any, limited: Settings
) -> None:
    tenants = Tenants(client, limits_of(limited))
    tenants.set("t1", OwnLimits(active=1))
    make_host()
    made = submit(jobs, 4)
    eventually(lambda: offered(client) == {made[0]})
    tenants.set("t1", OwnLimits(active=0))
    eventually(lambda: offered(client) == set(made))


def test_a_job_of_which_no_order_is_known_is_not_held_up(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any
) -> None:
    make_host()
    made = submit(jobs, 3)
    eventually(lambda: offered(client) == set(made[:2]))
    client.zrem(PartitionKeys(partition_of(made[2], PARTITIONS)).open("t1"), made[2])
    eventually(lambda: offered(client) == set(made))


def test_with_thousands_waiting_a_look_costs_one_question(
    make_host: Callable[[], Host], jobs: BlockingJobs, client: Any
) -> None:
    host = make_host()
    submit(jobs, 40)
    admission = host._performer._admission
    assert admission is not None
    eventually(lambda: len(offered(client)) == 2 and len(admission._waiting.get("t1", ())) == 38)
    asked: list[int] = []
    look = admission._oldest

    def counting(tenant: str, limit: int) -> list[str]:
        asked.append(threading.get_ident())
        return look(tenant, limit)

    admission._oldest = counting  # type: ignore[method-assign]
    list(admission.due())
    assert asked.count(threading.get_ident()) == 1  # the host's own care asks for itself
    waiting = [entry for entries in list(admission._waiting["t1"].values()) for entry in entries.values()]
    assert not any(admission.admits(*entry) for entry in waiting * 5)
    assert asked.count(threading.get_ident()) < len(waiting), "each asks whether it is its turn"


def test_a_tenant_whose_turn_cannot_be_told_costs_no_other_its_turn(limited: Settings, client: Any) -> None:
    """What has its turn waits in no memory any more: it is performed before anybody else is asked about."""
    tenants = Tenants(client, limits_of(limited))
    admission = Admission(client, tenants, lambda: [PartitionKeys(n) for n in range(PARTITIONS)])
    owner: Any = SimpleNamespace(lost=False)
    for tenant in ("a", "b"):
        jobs = [new_job_id() for _ in range(3)]
        for at, job in enumerate(jobs):
            client.zadd(PartitionKeys(partition_of(job, PARTITIONS)).open(tenant), {job: at})
        item = OutboxItem(f"{jobs[2]}|2", jobs[2], Dispatch("a", 2, "cpu"), tenant)
        assert not admission.admits(owner, item)
        client.zrem(PartitionKeys(partition_of(jobs[0], PARTITIONS)).open(tenant), jobs[0])
    name = PartitionKeys(0).open("b")
    client.delete(name)
    client.set(name, "no set of jobs")
    due = admission.due()
    assert [item.tenant for _, item in next(due)] == ["a"]
    with pytest.raises(redis.ResponseError):
        next(due)
    client.delete(name)
    assert [item.tenant for entries in admission.due() for _, item in entries] == ["b"]
