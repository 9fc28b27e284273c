"""From the decision to the watchers: how old an event is when it reaches one over SSE, for 1, for 500 and for 1,000 of
them, of whom 50 do not read."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import time
from contextlib import ExitStack
from typing import NamedTuple

import psutil

from benchmarks.figures import Figure, latency
from benchmarks.stand import Stand, until
from benchmarks.stories import submission
from benchmarks.watcher import Watcher, request
from callsheet.actors.client import Jobs
from callsheet.actors.keys import new_job_id
from callsheet.jobs.graph import StageSpec
from callsheet.jobs.messages import Claim, Partial, Progress
from tests.house.running import free_port

GRAPH = (StageSpec("only"),)
ABREAST = 25
TOKEN = 2  # JobSubmitted is event 1, StageDispatched is event 2
# What waits for those who do not read: more than the system's own buffers take.
BULK, PIECE = 400, "x" * 40_000


class Load(NamedTuple):
    """So many watchers who read and so many who do not; so many events, so many of them a second."""

    reading: int
    not_reading: int
    events: int
    rate: float


class Measured(NamedTuple):
    """Seconds since the event and since the report, one a watcher and event; bytes that those who do not read cost."""

    since_event: list[float]
    since_report: list[float]
    grown: int


def run(stand: Stand) -> list[Figure]:
    """One watcher with 20 events a second; 500, and 1,000 of the same job with 4: what a stage may report."""
    quick = (Load(1, 0, 5, 20), Load(4, 1, 5, 20))
    figures = []
    for load in quick if stand.quick else (Load(1, 0, 200, 20), Load(500, 0, 60, 4), Load(950, 50, 60, 4)):
        runs = [_measured(stand, load) for _ in range(stand.repeats)]
        who = f"{load.reading} watcher{'s' * (load.reading > 1)}"
        who += f", {load.not_reading} more not reading" * (load.not_reading > 0)
        note = f"{load.rate:g} events/s; from the event's `at`, taken before its commit"
        figures += latency(f"event to {who}", [r.since_event for r in runs], target=100, note=note)
        note = f"{load.rate:g} events/s; from before the report was sent to the mailbox"
        figures += latency(f"report to {who}", [r.since_report for r in runs], note=note)
        if load.not_reading:
            grown = tuple(r.grown / load.not_reading / 1024 for r in runs)
            note = f"resident, of the API's processes; {BULK * len(PIECE) / 1e6:g} MB wait for each"
            figures.append(Figure("API memory a watcher that does not read", "KiB", grown, note=note))
    return figures


def _measured(stand: Stand, load: Load) -> Measured:
    port = free_port()
    with stand.flush(), stand.role("host", worker_lost_after_seconds=3600), stand.role("api", port=port) as api:
        until(lambda: answers(port), "the API is ready", api, every=0.1)
        return asyncio.run(_watch(stand, port, load, psutil.Process(api.pid)))


async def _watch(stand: Stand, port: int, load: Load, api: psutil.Process) -> Measured:
    jobs, job = Jobs(stand.journal.url), new_job_id()
    try:
        await jobs.ask(job, submission(job, GRAPH))
        await jobs.ask(job, Claim("only", TOKEN, "bench"))
        after = await _fill(jobs, job) if load.not_reading else 0
        with ExitStack() as stack:
            watchers: list[Watcher] = []
            while len(watchers) < load.reading:  # not all at once: that they come is not what is measured
                some = [await Watcher.open(port, job, after) for _ in range(min(ABREAST, load.reading - len(watchers)))]
                await asyncio.wait_for(asyncio.gather(*(w.opened.wait() for w in some)), 60)
                watchers += some
            before = _resident(api)
            for _ in range(load.not_reading):
                stack.enter_context(not_reading(port, job))
            await _report(jobs, job, load)
            for watcher in watchers:
                await asyncio.wait_for(watcher.seen(load.events), 60)
                watcher.close()
            grown = _resident(api) - before
        since_event = [s for w in watchers for s in w.since_event]
        return Measured(since_event, [s for w in watchers for s in w.since_report], grown)
    finally:
        await jobs.close()


async def _fill(jobs: Jobs, job: str) -> int:
    """Give the job a history of some megabytes; the seq before its last event, which tells a watcher that it is in."""
    seq = 0
    for number in range(1, BULK + 1):
        seq = (await jobs.ask(job, Partial("only", TOKEN, number, {"text": PIECE}), timeout=30)).seq
    return seq - 1


async def _report(jobs: Jobs, job: str, load: Load) -> None:
    due = time.perf_counter()
    for number in range(1, load.events + 1):
        due += 1 / load.rate
        await asyncio.sleep(due - time.perf_counter())
        report = Progress("only", TOKEN, BULK + number, number / load.events, str(time.time()))
        await jobs.tell(job, report)


def not_reading(port: int, job: str) -> socket.socket:
    """A watcher from the first event on that takes nothing."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.connect(("127.0.0.1", port))
    link.sendall(request(job, 0))
    return link


def _resident(api: psutil.Process) -> int:
    return sum(process.memory_info().rss for process in (api, *api.children(recursive=True)))


def answers(port: int) -> bool:
    """Whether the API says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False
