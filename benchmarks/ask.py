"""How long it takes to ask the owner of a job for something and to have its answer, at 200 a second."""

from __future__ import annotations

import asyncio
import time

from benchmarks.figures import Figure, latency
from benchmarks.stand import PARTITIONS, Stand
from benchmarks.stories import submission
from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.jobs.messages import Cancel, Message

RATE = 200
ABREAST = 40
LONGEST = 10.0  # seconds; an answer that does not come counts as this long


def run(stand: Stand) -> list[Figure]:
    """A new job each time; and a command that has nothing to do any more, to a job that is over."""
    submits, commands = [], []
    for _ in range(stand.repeats):
        with stand.flush(), stand.role("host"):
            first, second = asyncio.run(_both(stand))
            submits.append(first)
            commands.append(second)
    note = f"{RATE}/s, from when it was due to be asked"
    return [
        *latency("submit and be answered", submits, target=50, note=note),
        *latency("cancel what is cancelled", commands, target=50, note=note),
    ]


async def _both(stand: Stand) -> tuple[list[float], list[float]]:
    jobs, count = Jobs(stand.journal.url), 40 if stand.quick else 2000
    ids = [new_job_id() for _ in range(count)]
    try:
        await jobs.ask(done := new_job_id(), submission(done))
        submits = await _asked(jobs, [(job, submission(job)) for job in ids])
        for start in range(0, count, ABREAST):
            await asyncio.gather(*(jobs.ask(job, Cancel(), timeout=LONGEST) for job in ids[start : start + ABREAST]))
        _until_performed(stand)
        return submits, await _asked(jobs, [(job, Cancel()) for job in ids])
    finally:
        await jobs.close()


def _until_performed(stand: Stand) -> None:
    """What follows from the cancels (files to clear away, places to give up) is done before anything is measured."""
    outboxes = [PartitionKeys(number).outbox for number in range(PARTITIONS)]
    with stand.journal.client() as client:
        while any(client.hlen(outbox) for outbox in outboxes):
            time.sleep(0.05)  # nothing else is to run meanwhile


async def _asked(jobs: Jobs, what: list[tuple[str, Message]]) -> list[float]:
    """Ask at fixed times, whether the answers before have come or not; seconds to each answer."""
    begun = time.perf_counter() + 0.05

    async def one(number: int, job: str, message: Message) -> float:
        due = begun + number / RATE
        await asyncio.sleep(due - time.perf_counter())
        try:
            await jobs.ask(job, message, timeout=LONGEST)
        except CallsheetError:
            return LONGEST
        return time.perf_counter() - due

    return await asyncio.gather(*(one(n, job, message) for n, (job, message) in enumerate(what)))
