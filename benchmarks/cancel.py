"""From a cancel to the death of everything that the stage has started: a call into native code, and a child process."""

from __future__ import annotations

import asyncio
import time

from benchmarks.figures import Figure, latency
from benchmarks.recipes import STUCK
from benchmarks.stand import Stand
from benchmarks.stories import submission
from callsheet.actors.client import Jobs
from callsheet.actors.keys import new_job_id
from callsheet.actors.stages.process_group import group_lives
from callsheet.jobs.events import PartialResult, decode_event
from callsheet.jobs.messages import Cancel

PIPELINE = "benchmarks.recipes:STUCK"


def run(stand: Stand) -> list[Figure]:
    """One after the other; each costs a stage child, and the next one waits until another is warm."""
    runs = []
    for _ in range(min(3, stand.repeats)):
        worker = ("worker", "--queue", "cpu", "--concurrency", "1")
        with stand.flush(), stand.role("host", pipelines=PIPELINE), stand.role(*worker, pipelines=PIPELINE):
            runs.append(asyncio.run(_cancelled(stand, 2 if stand.quick else 30)))
    dead = [[gone - accepted for accepted, gone in times] for times in runs]
    whole = [[gone for _, gone in times] for times in runs]
    note = "the stage is in native code and has a child of its own"
    return [
        *latency("cancel accepted → process group gone", dead, note=note),
        *latency("cancel sent → process group gone", whole, target=2000, note=note),
    ]


async def _cancelled(stand: Stand, count: int) -> list[tuple[float, float]]:
    """Seconds from sending a cancel until it was accepted, and until the group was gone."""
    jobs, times = Jobs(stand.journal.url), []
    try:
        for _ in range(count):
            job = new_job_id()
            await jobs.ask(job, submission(job, STUCK.specs, STUCK.name), timeout=60)
            group = await _group(jobs, job)
            sent = time.perf_counter()
            outcome = await jobs.ask(job, Cancel(), timeout=60)
            accepted = time.perf_counter()
            assert outcome.ok, outcome
            while group_lives(group):  # noqa: ASYNC110  (a death rings no bell)
                await asyncio.sleep(0.0005)
            times.append((accepted - sent, max(accepted, time.perf_counter()) - sent))
        return times
    finally:
        await jobs.close()


async def _group(jobs: Jobs, job: str) -> int:
    """The process group that the stage says it runs in."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for entry in await jobs.events(job):
            body = decode_event(entry.raw).data
            if isinstance(body, PartialResult):
                return int(body.partial["group"])
        await asyncio.sleep(0.02)
    raise TimeoutError("the stage does not run")
