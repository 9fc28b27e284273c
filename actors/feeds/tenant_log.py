"""All events of a tenant, in an order that can be resumed, read from where the commits of its jobs say that they are.

Each partition numbers the tenant's events 1 up, whichever job they are of; a commit notes (in commit.lua) the job and
the seq of what it wrote, not the events themselves. So a place in the whole is one number a partition: a `Cursor`. The
order within a job is exact; between jobs of different partitions there is none but the one in which they were read.
Notes are kept only for a tenant that somebody has asked about in the last week: all others cost a commit nothing.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import chain, zip_longest
from typing import Any

import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.feeds.job_feed import CursorLostError
from callsheet.actors.wire import EventEntry, read_entries, unavailable

KEEP_SECONDS = 7 * 24 * 3600
MAX_READ = 128  # events read at once
CHANGES = files("callsheet.actors").joinpath("lua/changes.lua").read_text()
Cursor = tuple[int, ...]
_TEXT = re.compile(r"[0-9a-f]{1,13}(\.[0-9a-f]{1,13})+\Z")


class _Note(msgspec.Struct, frozen=True):
    """`count` events of a job, up to its seq `seq`; the last of them is number `number` of its partition."""

    partition: int
    number: int
    job: str
    seq: int
    count: int


class TenantEvent(msgspec.Struct, frozen=True):
    """One event of a tenant and its place. `raw` is what watchers get: the event's JSON with its job."""

    partition: int
    number: int
    job: str
    seq: int
    type: str
    raw: bytes


class _At(msgspec.Struct):
    at: str = ""


_at = msgspec.json.Decoder(_At).decode


def cursor_text(cursor: Cursor) -> str:
    """A cursor as a watcher is given it: the lowest number, and each one's distance from it, in hex."""
    low = min(cursor)
    return ".".join(f"{n:x}" for n in (low, *(number - low for number in cursor)))


def read_cursor(text: str) -> Cursor:
    """The cursor in a text. Raises ValueError."""
    if len(text) > 4096 or not _TEXT.match(text):
        raise ValueError("not a cursor of a tenant's feed")
    low, *more = (int(part, 16) for part in text.split("."))
    return tuple(low + distance for distance in more)


class TenantLog:
    """The events of one tenant. Every method raises Unavailable when Redis is away."""

    def __init__(self, jobs: Jobs, tenant: str) -> None:
        self._jobs = jobs
        self._tenant = tenant

    async def channels(self) -> list[str]:
        """What says that there is more."""
        return [keys.changes(self._tenant) for keys in await self._jobs.partitions()]

    async def reach(self) -> tuple[Cursor, Cursor]:
        """From where to where events can be read. From the first call on they are kept."""
        pipe = self._jobs.redis.pipeline(transaction=False)
        for stream in await self.channels():
            pipe.eval(CHANGES, 1, stream, KEEP_SECONDS)
        with unavailable():
            rows = await pipe.execute()
        return tuple(row[0] for row in rows), tuple(row[1] for row in rows)

    async def read(self, after: Cursor, limit: int = MAX_READ, until: Cursor | None = None) -> list[TenantEvent]:
        """Events that follow a cursor, `limit` at most and none beyond `until`; each partition's in order. Raises
        CursorLostError."""
        notes = await self._notes(after, limit, until)
        pipe = self._jobs.redis.pipeline(transaction=False)
        partitions = await self._jobs.partitions()
        for note in notes:
            first = note.seq - note.count + 1
            pipe.xrange(partitions[note.partition].log(note.job), min=f"{first}-0", max=f"{note.seq}-0")
        with unavailable():
            found = await pipe.execute() if notes else []
        return _in_time_order(list(map(_events, notes, found)), len(partitions))

    async def _notes(self, after: Cursor, limit: int, until: Cursor | None) -> list[_Note]:
        """Where the next events are: as many of each partition, until it is enough."""
        streams = await self.channels()
        if len(after) != len(streams):
            raise CursorLostError
        pipe = self._jobs.redis.pipeline(transaction=False)
        for stream, number in zip(streams, after, strict=True):
            pipe.xrange(stream, min=f"{number}-0", max="+", count=limit + 1)
        with unavailable():
            rows = await pipe.execute()
        # What is beyond is left out before it is counted: many partitions would fill the page with it.
        ends: Sequence[float] = until or [math.inf] * len(after)
        fresh = [
            _fresh(partition, number, end, row)
            for partition, (number, end, row) in enumerate(zip(after, ends, rows, strict=True))
        ]
        notes, size = list[_Note](), 0
        for note in chain.from_iterable(zip_longest(*fresh)):
            if note is not None and size < limit:
                notes.append(_cut(note, limit - size))
                size += notes[-1].count
        return notes


def _fresh(partition: int, known: int, end: float, row: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[_Note]:
    """The notes of a partition on what comes after the number that is known, up to `end`. Raises CursorLostError if
    they do not continue from it: some are gone, or it is beyond the end."""
    notes = [_note(partition, *entry) for entry in row]
    if not notes or notes[0].number - notes[0].count > known:
        raise CursorLostError
    for note in notes:
        left = min(note.count, note.number - known)
        wanted = min(left, left - note.number + end)
        if wanted > 0:
            yield _cut(msgspec.structs.replace(note, count=left), int(wanted))


def _note(partition: int, id_: bytes, fields: dict[bytes, bytes]) -> _Note:
    number = int(id_.partition(b"-")[0])
    return _Note(partition, number, fields.get(b"j", b"").decode(), int(fields.get(b"s", 0)), int(fields[b"n"]))


def _cut(note: _Note, most: int) -> _Note:
    """The first events of a note, so many at most."""
    over = max(0, note.count - most)
    return msgspec.structs.replace(note, number=note.number - over, seq=note.seq - over, count=note.count - over)


def _events(note: _Note, found: Any) -> list[TenantEvent]:
    """The events of a note; in the place of one that is gone with its job, word that it is."""
    by_seq = {entry.seq: entry for entry in read_entries(found)}
    seqs = range(note.seq - note.count + 1, note.seq + 1)
    first = note.number - note.count + 1
    return [_event(note, first + at, seq, by_seq.get(seq)) for at, seq in enumerate(seqs)]


def _event(note: _Note, number: int, seq: int, entry: EventEntry | None) -> TenantEvent:
    if entry is None:
        raw = b'{"job":"%s","seq":%d,"type":"EventForgotten"}' % (note.job.encode(), seq)
        return TenantEvent(note.partition, number, note.job, seq, "EventForgotten", raw)
    raw = b'{"job":"%s",%s' % (note.job.encode(), entry.raw[1:])
    return TenantEvent(note.partition, number, note.job, seq, entry.type, raw)


def _in_time_order(found: list[list[TenantEvent]], partitions: int) -> list[TenantEvent]:
    """The partitions' events as one list, by their times; each partition's in its own order, whatever the times say."""
    lists: list[list[tuple[str, int, TenantEvent]]] = [[] for _ in range(partitions)]
    for event in chain.from_iterable(found):
        mine = lists[event.partition]
        at = _at(event.raw).at
        mine.append((max(at, mine[-1][0]) if mine else at, event.number, event))
    return [event for _, _, event in heapq.merge(*lists, key=lambda row: row[:2])]
