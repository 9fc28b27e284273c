"""What Redis does a second when the commits are ready made and nobody reads, decides or waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast

from benchmarks.stand import PARTITIONS, Stand
from benchmarks.stories import Told, put_into_mailboxes, unread
from callsheet.actors.clock import wall_clock
from callsheet.actors.committer import Committer, connect
from callsheet.actors.journal import Delivery, Journal
from callsheet.actors.keys import PartitionKeys, partition_of
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide

LANES, BATCH = 2, 64  # as the host has them
Call = tuple[str, Sequence[Any], Sequence[Any]]  # job, keys, arguments


class _Notebook:
    """Stands in for the Committer, and only notes what it is asked to send."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def run(self, _script: str, keys: Sequence[Any], args: Sequence[Any]) -> bytes:
        self.calls.append((str(args[3]), keys, args))
        return b"OK"


def commits_of(deliveries: Sequence[Delivery]) -> list[Call]:
    """The commits that their owner makes of these messages."""
    notebook, jobs = _Notebook(), dict[str, Job | None]()
    journals = [Journal(cast("Committer", notebook), None, PartitionKeys(n), 1) for n in range(PARTITIONS)]
    now = wall_clock()
    for delivery in deliveries:
        old = jobs.get(delivery.job)
        decision = decide(old, delivery.message, now)
        journals[partition_of(delivery.job, PARTITIONS)].commit(old, delivery, decision, now)
        jobs[delivery.job] = decision.job
    return notebook.calls


def ceiling(stand: Stand, told: Sequence[Told]) -> float:
    """Commits a second: packed beforehand, sent over two connections, a batch at a time on each."""
    source = files("callsheet.actors").joinpath("lua/commit.lua").read_text()
    with stand.flush() as client:
        calls = commits_of(put_into_mailboxes(client, told))
        for number in range(PARTITIONS):
            client.set(PartitionKeys(number).epoch, 1)
        sha = client.script_load(source)
        lanes = [_Lane(stand, sha, [c for c in calls if int(c[0], 16) % LANES == n]) for n in range(LANES)]
        begun = time.perf_counter()
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        seconds = time.perf_counter() - begun
        assert unread(client) == 0, "not every commit was accepted"
        return len(calls) / seconds


class _Lane(threading.Thread):
    """One connection, and what is to be sent over it."""

    def __init__(self, stand: Stand, sha: str, calls: Sequence[Call]) -> None:
        super().__init__(daemon=True)
        self._connection = connect(stand.journal.url).connection_pool.get_connection()
        commands = [("EVALSHA", sha, len(keys), *keys, *args) for _, keys, args in calls]
        batches = [commands[n : n + BATCH] for n in range(0, len(commands), BATCH)]
        self._batches = [(len(batch), self._connection.pack_commands(batch)) for batch in batches]

    def run(self) -> None:
        for count, packed in self._batches:
            self._connection.send_packed_command(packed)
            for _ in range(count):
                self._connection.read_response()
        self._connection.disconnect()
