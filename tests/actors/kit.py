"""What tests of ownership share: submissions, a partition with its real scripts, and waiting for a thing to be true."""

from __future__ import annotations

from functools import reduce
from typing import Any

import msgspec

from callsheet.actors.journal import Delivery
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.actors.snapshot import changed_fields
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.events import Event, decode_event
from callsheet.jobs.evolve import evolve
from callsheet.jobs.graph import RetryPolicy, StageSpec
from callsheet.jobs.job import InputRef, Job

START = 1_700_000_000_000
AGAIN = RetryPolicy(tries=3, base=0.0, cap=0.0, jitter=0.0)
PAIR = (StageSpec("a", retry=AGAIN), StageSpec("b", ("a",), retry=AGAIN))
ONE = (StageSpec("a", retry=AGAIN),)
POLICY = Policy()
ENDED = ("completed", "failed", "cancelled")


def submission(
    job: str | None = None, graph: tuple[StageSpec, ...] = PAIR, fingerprint: str = "f", **params: Any
) -> m.Submit:
    upload = InputRef("talk.mp3", 1000, "ab" * 32, "audio/mpeg")
    return m.Submit(job or new_job_id(), "t1", "demo", params, graph, upload, fingerprint)


def put(client: Any, keys: PartitionKeys, job: str, message: m.Message, *, mid: str = "", reply: str = "") -> Delivery:
    """A message in the mailbox, as an owner reads it."""
    fields = {"job": job, "mid": mid, "body": m.encode_message(message), "reply": reply}
    entry = client.xadd(keys.mailbox, fields)
    return Delivery(entry, job, mid.encode(), reply.encode(), message)


def everything(client: Any) -> dict[bytes, Any]:
    """All that a server holds, key by key (not as DUMP gives it: a hash changes its order by itself)."""
    read = {
        b"none": client.get,  # it has gone meanwhile
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": lambda key: (client.xrange(key), client.xinfo_stream(key)["last-generated-id"]),
    }
    return {key: read[client.type(key)](key) for key in client.keys("*")}


class LogEntry(msgspec.Struct, frozen=True):
    """One entry of a job's log as it lies in Redis."""

    seq: int
    epoch: int
    type: str
    raw: bytes

    @property
    def event(self) -> Event:
        return decode_event(self.raw)


def log_of(client: Any, keys: PartitionKeys, job: str) -> list[LogEntry]:
    """A job's log; I1: its ids are 1-0, 2-0, … without a gap."""
    entries = client.xrange(keys.log(job))
    assert [entry for entry, _ in entries] == [b"%d-0" % n for n in range(1, len(entries) + 1)], "I1: a gap"
    return [
        LogEntry(n, int(fields[b"o"]), fields[b"t"].decode(), fields[b"e"]) for n, (_, fields) in enumerate(entries, 1)
    ]


def check_job(client: Any, keys: PartitionKeys, job: str) -> Job:
    """I1 to I3 for one job that exists and was not forgotten: dense, folding to its snapshot, epochs never falling."""
    log = log_of(client, keys, job)
    assert log, "I6: a job that was accepted is not there"
    for entry in log:
        event = entry.event
        assert (event.seq, event.type) == (entry.seq, entry.type)
    folded = reduce(evolve, (entry.event for entry in log), None)
    assert folded is not None
    assert client.hgetall(keys.snapshot(job)) == as_hash(folded), "I2: the snapshot is not what the log adds up to"
    epochs = [entry.epoch for entry in log]
    assert epochs == sorted(epochs), "I3: an epoch falls"
    assert epochs[-1] <= int(client.get(keys.epoch)), "I3: an epoch that was never given out"
    return folded


def as_hash(job: Job) -> dict[bytes, bytes]:
    """A snapshot as Redis is to hold it, to the byte."""
    written, _ = changed_fields(None, job)
    return {name.encode(): value for name, value in written}
