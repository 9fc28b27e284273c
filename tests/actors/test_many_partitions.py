"""What a host does about all of its partitions it does in one go: a thousand leases are renewed before one is over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callsheet.actors.host import Host
from callsheet.actors.keys import BORN, PartitionKeys, new_job_id, partition_of
from callsheet.actors.ownership import Ownership
from callsheet.config.settings import Settings
from tests.servers import RedisServer

MANY = 200
FEW = 30  # requests that the server reads; the least for each partition by itself would be MANY


@pytest.fixture
def client(journal_server: RedisServer) -> Iterator[Any]:
    with journal_server.client() as client:
        yield client


@pytest.fixture
def make_host(settings: Settings) -> Iterator[Callable[[], Host]]:
    hosts: list[Host] = []

    def make() -> Host:
        # A lease that outlasts the test: nobody renews it but the test.
        hosts.append(Host(settings.model_copy(update={"partitions": MANY, "lease_seconds": 300.0})))
        return hosts[-1]

    yield make
    for host in hosts:
        if not host._stopping.is_set():
            host.stop()


def reads(client: Any, what: Callable[[], None]) -> int:
    """How often the server reads from its connections meanwhile."""
    before = client.info("stats")["total_reads_processed"]
    what()
    return int(client.info("stats")["total_reads_processed"] - before)


def test_leases_are_taken_renewed_and_given_back_and_timers_fired_in_one_go(
    make_host: Callable[[], Host], client: Any
) -> None:
    host = make_host()
    assert reads(client, host._tend) < FEW
    assert len(host.owned) == MANY
    leases = [PartitionKeys(number).lease for number in range(MANY)]
    for lease in leases:
        client.pexpire(lease, 2_000)
    client.zadd(PartitionKeys(MANY - 1).timers, {"a" * 32 + "|expire": 1})
    assert reads(client, host._tend) < FEW
    assert min(client.pttl(lease) for lease in leases) > 2_000
    assert reads(client, host._fire) < FEW
    assert client.xlen(PartitionKeys(MANY - 1).mailbox) == 1
    assert reads(client, host.stop) < FEW
    assert client.exists(*leases) == 0


def test_a_partition_that_is_anothers_is_lost_alone_and_its_timers_stay(
    make_host: Callable[[], Host], client: Any
) -> None:
    host = make_host()
    host._tend()
    client.set(PartitionKeys(3).lease, "another host")
    client.incr(PartitionKeys(7).epoch)
    for number in (3, 7, 8):
        client.zadd(PartitionKeys(number).timers, {"a" * 32 + "|expire": 1})
    host._fire()
    assert [number for number, owned in host.owned.items() if owned.lost] == [7]
    host._tend()
    assert {number for number in range(MANY) if number not in host.owned or host.owned[number].lost} == {3}
    assert [client.zcard(PartitionKeys(number).timers) for number in (3, 7, 8)] == [0, 1, 0]


def test_two_hosts_take_no_more_than_their_share(make_host: Callable[[], Host]) -> None:
    first, second = make_host(), make_host()
    first._tend()
    second._tend()
    assert (len(first.owned), len(second.owned)) == (MANY, 0)
    first._tend()
    second._tend()
    assert (len(first.owned), len(second.owned)) == (MANY // 2, MANY // 2)
    assert not set(first.owned) & set(second.owned)


def test_files_of_nobody_are_found_among_many_in_one_go_and_removed(make_host: Callable[[], Host], client: Any) -> None:
    host = make_host()
    host._tend()
    client.set(BORN, 1_000)
    folder = host._settings.data / "store" / "jobs"
    jobs = [new_job_id() for _ in range(MANY)]
    for number, job in enumerate(jobs):
        (folder / job).mkdir(parents=True)
        os.utime(folder / job, (1_000, 1_000))
        keys = PartitionKeys(partition_of(job, MANY))
        if number != 7:
            client.set(keys.receipt(job) if number % 2 else keys.snapshot(job), "x")
    assert reads(client, host._sweep) < FEW
    assert {path.name for path in folder.iterdir()} == set(jobs) - {jobs[7]}


def test_files_that_are_older_than_the_journal_stay(make_host: Callable[[], Host], client: Any) -> None:
    """It is empty by mistake, or was emptied while hosts ran: what it does not know may be all there is."""
    host = make_host()
    host._tend()
    job = host._settings.data / "store" / "jobs" / new_job_id()
    job.mkdir(parents=True)
    os.utime(job, (1_000, 1_000))
    host._sweep()
    client.flushall()
    host._sweep()
    assert job.exists()


def test_what_is_read_at_once_does_not_grow_with_the_partitions(
    make_host: Callable[[], Host], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host()
    host._tend()
    host._settings = host._settings.model_copy(update={"host_capacity": 3 * MANY})
    monkeypatch.setattr(Ownership, "receive", lambda *_: None)
    pipe = client.pipeline(transaction=False)
    for number in range(MANY):
        for _ in range(5):
            pipe.xadd(PartitionKeys(number).mailbox, {"job": "a" * 32})
    pipe.execute()
    host._read()
    assert host._in_hand == 3 * MANY


def test_a_server_that_has_lost_its_scripts_is_told_them_again(make_host: Callable[[], Host], client: Any) -> None:
    host = make_host()
    host._tend()
    client.script_flush()
    host._tend()
    host._fire()
    assert not any(owned.lost for owned in host.owned.values())
