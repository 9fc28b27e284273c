"""Fifty senders in two processes at the same jobs: one order for all, nothing lost. And the old way beside it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.jobs import messages as m
from callsheet.jobs.events import Event, StageLogged
from callsheet.jobs.graph import StageSpec
from tests.actors.kit import AGAIN, ENDED, check_job, log_of, submission
from tests.faults.processes import HostProcess
from tests.servers import RedisServer
from tests.waiting import eventually

JOBS, SENDERS, PROCESSES, ROUNDS = 20, 50, 2, 24
PARTITIONS = 16
KINDS = ("cancel", "success", *["retry"] * 4, *["progress"] * 2, *["log"] * 8)
GRAPH = (StageSpec("a", retry=AGAIN),)
_processes = multiprocessing.get_context("spawn")


# -- the load: the same decisions for both ways


def plan(sender: int) -> Iterator[tuple[int, str]]:
    """What a sender does: which job, which kind of message; the same in each run."""
    dice = random.Random(sender)
    for _ in range(ROUNDS):
        yield dice.randrange(JOBS), dice.choice(KINDS)


def run_senders(way: str, url: str, jobs: list[str], first: int, results: Any) -> None:
    """A process with half of the senders, a task each."""
    results.put(asyncio.run(_senders(way, url, jobs, first)))


async def _senders(way: str, url: str, jobs: list[str], first: int) -> list[tuple[str, str]]:
    client: Any = Jobs(url, reply_timeout=30.0) if way == "mailbox" else aioredis.from_url(url)
    send = _by_mailbox if way == "mailbox" else _by_blob
    numbers = range(first, first + SENDERS // PROCESSES)
    done = await asyncio.gather(*(_sender(send, client, jobs, number) for number in numbers))
    await (client.close() if way == "mailbox" else client.aclose())
    return [accepted for sender in done for accepted in sender]


async def _sender(send: Any, client: Any, jobs: list[str], number: int) -> list[tuple[str, str]]:
    """The job and the trace of each message that was accepted."""
    accepted = []
    for n, (job, kind) in enumerate(plan(number)):
        mark = f"{number}.{n}"
        if trace := await send(client, jobs[job], kind, mark):
            accepted.append((jobs[job], trace))
    return accepted


async def _by_mailbox(client: Jobs, job: str, kind: str, mark: str) -> str:
    """The trace that an accepted message must have left, '' for none: one JobRetried a retry, its mark a log line."""
    for _ in range(3):  # a report comes too late more often than not, with so many others at it
        _, stage = await client.stage(job, "a")
        assert stage is not None
        token, n = stage.token, stage.heard + 1
        match kind:
            case "cancel":
                await client.ask(job, m.Cancel(), mark)
                return ""
            case "retry":
                return "JobRetried" if (await client.ask(job, m.Retry(), mark)).ok else ""
            case "success":
                await client.ask(job, m.Succeeded("a", token))
                return ""
            case "progress":
                await client.ask(job, m.Progress("a", token, n, n / 100))
                return ""
        await client.ask(job, m.Claim("a", token, "w"))
        if (await client.ask(job, m.LogLines("a", token, n, (mark,)))).ok:
            return mark
    return ""


async def _by_blob(client: Any, job: str, kind: str, mark: str) -> str:
    """Read, modify, write, as the services that Callsheet replaces did."""
    blob = json.loads(await client.get(f"blob:{job}"))
    seq = blob["seq"] + 1
    blob = {**blob, "seq": seq, "status": kind}
    if kind == "log":
        blob["lines"] = [*blob["lines"], mark]
    await client.set(f"blob:{job}", json.dumps(blob))
    await client.rpush(f"events:{job}", json.dumps({"seq": seq, "kind": kind, "mark": mark}))
    return mark if kind == "log" else ""


def contend(way: str, url: str, jobs: list[str]) -> list[tuple[str, str]]:
    """What was accepted, by all senders of both processes."""
    results = _processes.Queue()
    per_process = SENDERS // PROCESSES
    processes = [
        _processes.Process(target=run_senders, args=(way, url, jobs, n * per_process, results), daemon=True)
        for n in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    accepted = [pair for _ in processes for pair in results.get(timeout=100)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return accepted


# -- the checks: the same for both ways


def complaints(accepted: list[tuple[str, str]], histories: dict[str, list[tuple[int, str]]]) -> list[str]:
    """What is wrong: updates that were accepted and are gone or doubled, numbers that are no single dense order."""
    found = []
    for job, history in histories.items():
        expected = Counter(mark for name, mark in accepted if name == job)
        kept = Counter(mark for _, mark in history if mark)
        found += [f"lost {mark}" for mark in expected - kept]
        found += [f"doubled {mark}" for mark in kept - expected]
        if [seq for seq, _ in history] != list(range(1, len(history) + 1)):
            found.append(f"no dense order in {job}")
    return found


class Readers:
    """Several readers that follow every job as it grows, each from its own place, and note what they see."""

    def __init__(self, url: str, jobs: list[str], count: int = 3) -> None:
        self.seen: list[dict[str, list[tuple[int, bytes]]]] = [{job: [] for job in jobs} for _ in range(count)]
        self._clients = [BlockingJobs(url) for _ in range(count)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=[n]) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int) -> None:
        seen, client = self.seen[number], self._clients[number]
        while not self._stop.wait(0.02):
            self._look(seen, client, limit=3 + 5 * number)
        self._look(seen, client, limit=100_000)

    def _look(self, seen: dict[str, list[tuple[int, bytes]]], client: BlockingJobs, limit: int) -> None:
        for job, events in seen.items():
            try:
                events += [(e.seq, e.raw) for e in client.events(job, len(events), limit)]
            except CallsheetError:
                continue

    def finish(self) -> list[dict[str, list[tuple[int, bytes]]]]:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        for client in self._clients:
            client.close()
        return self.seen


@pytest.fixture
def hosts(tmp_path: Path, redis_url: str, broker_url: str) -> Iterator[list[HostProcess]]:
    hosts = [HostProcess(tmp_path, redis_url, broker_url) for _ in range(2)]
    yield hosts
    for host in hosts:
        host.end()


@pytest.mark.timeout(240)
def test_fifty_senders_at_twenty_jobs_through_moving_hosts_make_one_order(
    hosts: list[HostProcess], tmp_path: Path, redis_url: str, broker_url: str, journal_server: RedisServer
) -> None:
    for host in hosts:
        host.ready()
    jobs = [new_job_id() for _ in range(JOBS)]
    client = BlockingJobs(redis_url, reply_timeout=30.0)
    for job in jobs:
        assert client.ask(job, submission(job, GRAPH)).ok
    before = epochs(journal_server)
    readers = Readers(redis_url, jobs)
    moving = threading.Thread(target=_third_host_comes_and_goes, args=[hosts, tmp_path, redis_url, broker_url])
    moving.start()
    accepted = contend("mailbox", redis_url, jobs)
    moving.join()
    assert epochs(journal_server) != before, "no partition moved"
    partitions = {job: PartitionKeys(partition_of(job, PARTITIONS)) for job in jobs}
    with journal_server.client() as server:
        for keys in partitions.values():
            eventually(lambda k=keys: server.xlen(k.mailbox) == 0)  # type: ignore[misc]
        for host in hosts:
            assert host.terminate() == 0  # no timer fires any more: what is read twice is the same
        for job, keys in partitions.items():
            check_job(server, keys, job)
        logs = {job: log_of(server, keys, job) for job, keys in partitions.items()}
    seen = readers.finish()
    for reader in seen:
        assert reader == {job: [(e.seq, e.raw) for e in log] for job, log in logs.items()}, "readers disagree"
    histories = {job: [(e.seq, _trace(e.event)) for e in log] for job, log in logs.items()}
    assert complaints(accepted, histories) == []
    traces = Counter(trace == "JobRetried" for _, trace in accepted)
    assert min(traces[True], traces[False]) >= 20, "too little was accepted for this to mean anything"
    hosts.append(HostProcess(tmp_path, redis_url, broker_url).ready())
    for job in jobs:
        client.ask(job, m.Cancel())
    for job in jobs:
        eventually(lambda j=job: client.job(j).status in ENDED)  # type: ignore[misc, union-attr]
    client.close()


def _third_host_comes_and_goes(hosts: list[HostProcess], folder: Path, redis_url: str, broker_url: str) -> None:
    third = HostProcess(folder, redis_url, broker_url).ready()
    hosts.append(third)
    eventually(lambda: "partitions owned" in third.said())
    third.terminate()


def epochs(server: RedisServer) -> list[Any]:
    """Under which each partition is owned."""
    with server.client() as client:
        return list(client.mget([PartitionKeys(number).epoch for number in range(PARTITIONS)]))


def _trace(event: Event) -> str:
    if isinstance(event.data, StageLogged):
        return event.data.lines[0]
    return event.type if event.type == "JobRetried" else ""


def test_the_old_way_loses_updates_under_the_same_load_and_the_checks_see_it(
    redis_url: str, journal_server: RedisServer
) -> None:
    jobs = [new_job_id() for _ in range(JOBS)]
    with journal_server.client() as server:
        for job in jobs:
            server.set(f"blob:{job}", json.dumps({"seq": 0, "status": "queued", "lines": []}))
        accepted = contend("blob", redis_url, jobs)
        lines = {job: json.loads(server.get(f"blob:{job}"))["lines"] for job in jobs}
        events = {job: [json.loads(raw) for raw in server.lrange(f"events:{job}", 0, -1)] for job in jobs}
    kept = {job: list(enumerate(marks, 1)) for job, marks in lines.items()}
    assert any(complaint.startswith("lost") for complaint in complaints(accepted, kept))
    orders = {job: [(e["seq"], e["mark"] if e["kind"] == "log" else "") for e in events[job]] for job in jobs}
    assert any(complaint.startswith("no dense order") for complaint in complaints(accepted, orders))
