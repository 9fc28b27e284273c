"""From the decision to the watchers: how old an event is when it reaches one over SSE, for 1 and for 500 of them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time

from benchmarks.figures import Figure, latency
from benchmarks.stand import Stand, until
from benchmarks.stories import submission
from benchmarks.watcher import Watcher
from callsheet.actors.client import Jobs
from callsheet.actors.keys import new_job_id
from callsheet.jobs.graph import StageSpec
from callsheet.jobs.messages import Claim, Progress

GRAPH = (StageSpec("only"),)
ABREAST = 25
TOKEN = 2  # JobSubmitted is event 1, StageDispatched is event 2


def run(stand: Stand) -> list[Figure]:
    """One watcher with 20 events a second, 500 of the same job with 4: what a stage may report."""
    figures = []
    loads = ((1, 5, 20), (5, 5, 20)) if stand.quick else ((1, 200, 20), (500, 60, 4))
    for count, events, rate in loads:
        runs = [_measured(stand, count, events, rate) for _ in range(stand.repeats)]
        note = f"{rate} events/s; from the event's `at`, taken before its commit"
        figures += latency(f"event to {count} watcher{'s' * (count > 1)}", [r[0] for r in runs], target=100, note=note)
        note = f"{rate} events/s; from before the report was sent to the mailbox"
        figures += latency(f"report to {count} watcher{'s' * (count > 1)}", [r[1] for r in runs], note=note)
    return figures


def _measured(stand: Stand, watchers: int, events: int, rate: float) -> tuple[list[float], list[float]]:
    port = free_port()
    with stand.flush(), stand.role("host", worker_lost_after_seconds=3600), stand.role("api", port=port) as api:
        until(lambda: answers(port), "the API is ready", api, every=0.1)
        return asyncio.run(_watch(stand, port, watchers, events, rate))


async def _watch(stand: Stand, port: int, count: int, events: int, rate: float) -> tuple[list[float], list[float]]:
    jobs, job = Jobs(stand.journal.url), new_job_id()
    try:
        await jobs.ask(job, submission(job, GRAPH))
        await jobs.ask(job, Claim("only", TOKEN, "bench"))
        watchers: list[Watcher] = []
        while len(watchers) < count:  # not all at once: that they come is not what is measured
            some = [await Watcher.open(port, job) for _ in range(min(ABREAST, count - len(watchers)))]
            await asyncio.wait_for(asyncio.gather(*(w.opened.wait() for w in some)), 60)
            watchers += some
        due = time.perf_counter()
        for number in range(1, events + 1):
            due += 1 / rate
            await asyncio.sleep(due - time.perf_counter())
            await jobs.tell(job, Progress("only", TOKEN, number, number / events, str(time.time())))
        for watcher in watchers:
            await asyncio.wait_for(watcher.seen(events), 60)
            watcher.close()
        return [s for w in watchers for s in w.since_event], [s for w in watchers for s in w.since_report]
    finally:
        await jobs.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether the API says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False
