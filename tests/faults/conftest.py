"""A small service for each test: two servers, hosts as processes, clients, and what must hold in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.errors import CallsheetError, NoAnswer
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Cancel
from tests.actors.kit import ENDED, check_job, submission
from tests.faults.processes import HostProcess, Workers
from tests.servers import RedisServer
from tests.waiting import eventually

PARTITIONS = 16


class Service:
    """Everything but the API: clients speak to the mailboxes themselves."""

    def __init__(self, folder: Path, journal: RedisServer, broker: RedisServer) -> None:
        self.folder, self.journal, self.broker = folder, journal, broker
        self.hosts: list[HostProcess] = []
        self.accepted: list[str] = []
        self.unavailable = 0
        self._workers: list[Workers] = []
        self._clients: list[BlockingJobs] = []
        self.client: Any = journal.client()
        self.jobs = self.new_client()

    def host(self, **options: Any) -> HostProcess:
        """Another host; it may not be ready yet."""
        host = HostProcess(self.folder, self.journal.url, self.broker.url, **options)
        self.hosts.append(host)
        return host

    def workers(self) -> Workers:
        workers = Workers(self.journal.url, self.broker.url)
        self._workers.append(workers)
        return workers

    def new_client(self) -> BlockingJobs:
        client = BlockingJobs(self.journal.url, reply_timeout=30.0)
        self._clients.append(client)
        return client

    def submit(self, count: int = 1) -> list[str]:
        """Jobs whose submission is in a mailbox, whatever it took."""
        return [self._submit(new_job_id()) for _ in range(count)]

    def _submit(self, job: str, attempts: int = 1_000) -> str:
        for left in reversed(range(attempts)):
            try:
                self.jobs.tell(job, submission(job))
                break
            except CallsheetError:
                assert left, "the journal does not come back"
                self.unavailable += 1
                threading.Event().wait(0.05)
        self.accepted.append(job)
        return job

    def owned(self) -> list[str]:
        """Who holds each partition, '' for nobody."""
        leases = self.client.mget([PartitionKeys(n).lease for n in range(PARTITIONS)])
        return [(lease or b"").decode() for lease in leases]

    def balanced(self, hosts: int) -> bool:
        owned = self.owned()
        return "" not in owned and sorted(owned.count(h) for h in set(owned)) == [PARTITIONS // hosts] * hosts

    def status(self, job: str) -> str:
        try:
            found = self.jobs.job(job)
        except CallsheetError:
            return "unavailable"
        return found.status if found else "absent"

    def all_end(self, seconds: float = 60.0) -> None:
        """I15."""
        left = set(self.accepted)

        def done() -> bool:
            left.difference_update([job for job in left if self.status(job) in ENDED])
            return not left

        try:
            eventually(done, seconds)
        except AssertionError:
            pytest.fail(f"I15: not every job ends\n{self._still(left)}")

    def _still(self, left: set[str]) -> str:
        """What is known of jobs that do not end: where they stand, what lies in their partitions, what hosts said."""
        lines = [f"{len(left)} of {len(self.accepted)}; owners {self.owned()}"]
        for job in sorted(left)[:5]:
            k, found = self.keys(job), self.jobs.job(job)
            stages = [(s.name, s.status, s.token, s.tries, s.losses) for s in found.stages.values()] if found else []
            lines.append(f"{job} {found.status if found else 'absent'} {stages}")
            lines += [f"  mailbox {self.client.xrange(k.mailbox, count=5)}"]
            lines += [f"  outbox {self.client.hgetall(k.outbox)} dispatched {self.client.hgetall(k.dispatched)}"]
            lines += [f"  timers {self.client.zrange(k.timers, 0, 9, withscores=True)} now {self.client.time()}"]
        with self.broker.client() as broker:
            lines.append(f"broker {[(key, broker.type(key)) for key in broker.keys('*')]}")
        lines += [f"host {h.process.pid} alive {h.alive}: …{h.said()[-1500:]}" for h in self.hosts]
        return "\n".join(lines)

    def check(self) -> dict[str, Job]:
        """I1 to I6 for everything that was accepted; nothing is left over."""
        jobs = {job: check_job(self.client, self.keys(job), job) for job in self.accepted}
        for partition in (PartitionKeys(n) for n in range(PARTITIONS)):
            eventually(lambda p=partition: self.client.xlen(p.mailbox) == 0, why="messages stay in a mailbox")  # type: ignore[misc]
            eventually(lambda p=partition: self.client.hlen(p.outbox) == 0, why="effects stay in an outbox")  # type: ignore[misc]
            eventually(lambda p=partition: self.client.hlen(p.dispatched) == 0, why="dispatches stay")  # type: ignore[misc]
            eventually(lambda p=partition: not self.client.keys(p.receipt("*")), why="a receipt without its job")  # type: ignore[misc]
        return jobs

    def keys(self, job: str) -> PartitionKeys:
        return PartitionKeys(partition_of(job, PARTITIONS))

    def ask_cancel(self, job: str) -> str:
        """What a client is told: ok, a code of refusal, or unknown."""
        try:
            outcome = self.jobs.ask(job, Cancel())
        except NoAnswer:
            return "unknown"
        except CallsheetError as error:
            return error.code
        return "ok" if outcome.ok else outcome.code

    def end(self) -> None:
        for workers in self._workers:
            workers.stop()
        for client in self._clients:
            client.close()
        for host in self.hosts:
            host.end()
        self.client.close()


@pytest.fixture
def service(make_redis: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "service", make_redis("journal"), make_redis("broker"))
    yield service
    service.end()


def no_dispatch_ran_twice(workers: Workers) -> None:
    """However often it was delivered, a dispatch is granted to one worker."""
    assert set(workers.granted.values()) <= {1}
