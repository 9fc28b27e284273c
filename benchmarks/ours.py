"""Callsheet itself: a host, and a worker with two slots, each of which runs its stages in a warm child process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis

from benchmarks.contest import SLOTS, few_at_a_time, rate
from benchmarks.recipes import NOTHING
from benchmarks.stand import PARTITIONS, Stand
from benchmarks.stories import submission
from callsheet.actors.client import Jobs
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of

ABREAST = 40
COMPLETED = b'"completed"'


class Ours:
    """`one_server`: the broker is a database of the fsynced Redis, too; else a server beside it, as it is shipped."""

    def __init__(self, *, one_server: bool) -> None:
        self.name = "Callsheet, all on the one Redis" if one_server else "Callsheet, as shipped"
        self.note = "its broker fsyncs, too" if one_server else "its broker is a second Redis that keeps nothing"
        self._one_server = one_server

    def missing(self, _stand: Stand) -> str:
        """It is here."""
        return ""

    def jobs_per_second(self, stand: Stand, jobs: int) -> float:
        """See Contestant."""
        changes: dict[str, Any] = {"pipelines": "benchmarks.recipes:NOTHING", "one_server": self._one_server}
        worker = ("worker", "--queue", "cpu", "--concurrency", str(SLOTS))
        with stand.role("host", **changes), stand.role(*worker, **changes), stand.journal.client() as client:
            tally = Tally(client)

            def hand_in(count: int) -> None:
                asyncio.run(submit(stand, tally.expect(count)))

            return rate(jobs, hand_in, tally.done)


class Tally:
    """Which of the jobs are completed."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._open: dict[str, None] = {}
        self._expected = 0

    def expect(self, count: int) -> list[str]:
        """The ids of so many more jobs."""
        ids = [new_job_id() for _ in range(count)]
        self._open.update(dict.fromkeys(ids))
        self._expected += count
        return ids

    def done(self) -> int:
        """How many are completed, as far as a few of the oldest open ones show: to look at all would be a load."""
        return self._expected - len(few_at_a_time(self._open, self._completed))

    def _completed(self, jobs: Sequence[str]) -> list[bool]:
        pipe = self._client.pipeline(transaction=False)
        for job in jobs:
            pipe.hget(PartitionKeys(partition_of(job, PARTITIONS)).snapshot(job), "status")
        return [status == COMPLETED for status in pipe.execute()]


async def submit(stand: Stand, ids: list[str]) -> None:
    """Hand in a job for each id."""
    jobs = Jobs(stand.journal.url)
    try:
        for start in range(0, len(ids), ABREAST):
            page = ids[start : start + ABREAST]
            await asyncio.gather(*(jobs.tell(job, submission(job, NOTHING.specs)) for job in page))
    finally:
        await jobs.close()
