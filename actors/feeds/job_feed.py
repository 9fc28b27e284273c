"""The live view of journals: any number of watchers of a job share one reader of its journal.

A commit publishes "look again" on the job's channel. Whoever hears it reads the journal from where it stopped, once
for all watchers, and wakes them. What a watcher that does not read holds on to is one batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from functools import cached_property
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.feeds.pokes import Pokes
from callsheet.actors.keys import feed_channel
from callsheet.actors.tasks import RETRY_SECONDS, Bell, Patience, end_tasks
from callsheet.actors.telemetry.metrics import WATCHERS
from callsheet.actors.wire import EventEntry
from callsheet.jobs.events import TERMINAL_EVENTS
from callsheet.jobs.job import ACTIVE

# Of a job's events, kept for its watchers; who is further behind reads the journal.
RING, RING_BYTES = 512, 4 * 1024 * 1024
PAGE, PAGE_BYTES = 64, 256 * 1024  # of what is handed to a watcher at once
READ = 128  # events read from the journal at once
CATCHING_UP = 4  # watchers that read a page of the journal at the same time: it may be megabytes, of which few are kept


class Sized(Protocol):
    """Something to hand to watchers."""

    @property
    def raw(self) -> bytes:
        """Its bytes."""
        ...


S = TypeVar("S", bound=Sized)


def one_batch(entries: Iterable[S]) -> list[S]:
    """As many of the entries as one batch holds; the first one, whatever its size."""
    batch, size = list[S](), 0
    for entry in islice(entries, PAGE):
        size += len(entry.raw)
        if batch and size > PAGE_BYTES:
            break
        batch.append(entry)
    return batch


class CursorLostError(Exception):
    """The journal does not continue from this cursor: it is beyond the end, or what follows it is gone."""


class FeedEntry:
    """One event for watchers, encoded once for all of them."""

    def __init__(self, entry: EventEntry) -> None:
        self.seq = entry.seq
        self.type = entry.type
        self.raw = entry.raw

    @cached_property
    def frame(self) -> bytes:
        """The event as SSE sends it."""
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.seq, self.type.encode(), self.raw)

    @cached_property
    def text(self) -> str:
        """The event as WebSocket sends it."""
        return self.raw.decode()


class Watched(Generic[S]):
    """The end of something that grows, as far as it was read: the newest of it, and what wakes its watchers."""

    def __init__(self) -> None:
        self.watchers = 0
        self.ring: deque[S] = deque()
        self.bell = Bell()  # rung, and replaced, when there is more to see
        self.poked = asyncio.Event()
        self.reader: asyncio.Task[None] | None = None
        self.looking = asyncio.Lock()
        self._bytes = 0

    def keep(self, entry: S) -> None:
        """Append an entry; the oldest go where there are too many."""
        self.ring.append(entry)
        self._bytes += len(entry.raw)
        while len(self.ring) > RING or self._bytes > RING_BYTES:
            self._bytes -= len(self.ring.popleft().raw)

    def drop_all(self) -> None:
        """Keep none of them."""
        self.ring.clear()
        self._bytes = 0

    def ring_bell(self) -> None:
        """Wake everybody who waits."""
        bell, self.bell = self.bell, Bell()
        bell.ring()


class _Tail(Watched[FeedEntry]):
    """The end of one job's journal."""

    def __init__(self, job: str, jobs: Jobs) -> None:
        super().__init__()
        self.job = job
        self.seq = 0
        self.gone = False
        self.ended = False  # the job is over, as of `seq`
        self._latest: tuple[int, int, list[FeedEntry]] = (-1, -1, [])
        self._jobs = jobs
        self._begun = False

    async def begin(self) -> None:
        """Read the end of what there is, once. Raises Unavailable."""
        async with self.looking:
            if not self._begun:
                snapshot = await self._jobs.job(self.job)
                self.seq = max(self.seq, (snapshot.seq if snapshot else 0) - RING)
                self.ended = snapshot is not None and snapshot.status not in ACTIVE
                await self._look()
                self._begun = True

    async def look(self) -> None:
        """Read what is new. Raises Unavailable."""
        async with self.looking:
            await self._look()

    async def _look(self) -> None:
        while await self._look_once():
            pass

    async def _look_once(self) -> bool:
        # From the last one known on: if even that is not there any more, neither is the journal.
        entries = await self._jobs.events(self.job, max(0, self.seq - 1), READ)
        fresh = [FeedEntry(entry) for entry in entries if entry.seq > self.seq]
        self.gone = self.seq > 0 and not entries
        if fresh and self.ring and fresh[0].seq != self.seq + 1:
            self.drop_all()  # the ring holds a run without a gap, or it could not be counted on
        for entry in fresh:
            self._append(entry)
        if fresh or self.gone:
            self.ring_bell()
        return bool(fresh)

    def _append(self, entry: FeedEntry) -> None:
        self.keep(entry)
        self.seq = entry.seq
        if entry.type in TERMINAL_EVENTS:
            self.ended = True
        elif entry.type == "JobRetried":
            self.ended = False

    def after(self, seq: int) -> list[FeedEntry] | None:
        """The next events after `seq`, [] when there are none yet, None when the ring does not reach back so far."""
        if seq >= self.seq:
            return []
        if self._latest[:2] != (seq, self.seq):  # most watchers are where the one before them is
            skip = seq + 1 - self.ring[0].seq if self.ring else -1
            if skip < 0:
                return None
            self._latest = (seq, self.seq, one_batch(islice(self.ring, skip, None)))
        return self._latest[2]


T = TypeVar("T", bound=Watched[Any])


class Tails(Generic[T]):
    """The tails that somebody watches in this process, by name, and how all are let go of."""

    def __init__(self, jobs: Jobs) -> None:
        self.stopping = False
        self._jobs = jobs
        self._tails: dict[str, T] = {}
        self._pokes = Pokes(jobs.redis)
        self._catching_up = asyncio.Semaphore(CATCHING_UP)

    def stop(self) -> None:
        """Let every watcher go."""
        self.stopping = True
        for tail in self._tails.values():
            tail.ring_bell()

    async def close(self) -> None:
        """Stop, and leave nothing running."""
        self.stop()
        await end_tasks(tail.reader for tail in self._tails.values() if tail.reader)
        await self._pokes.close()
        self._tails.clear()


class Feed(Tails[_Tail]):
    """All jobs that somebody watches in this process. Start it inside a running loop; close it when done."""

    async def follow(self, job: str, after: int, idle: float) -> AsyncGenerator[list[FeedEntry], None]:
        """The events after `after`, in order, without gap or repeat, for as long as the caller likes; an empty list
        after `idle` seconds without one. While Redis is away it waits. Ends when the feed stops. Raises CursorLost.
        """
        tail = self._join(job)
        WATCHERS.labels("job").inc()
        patience = Patience(idle)
        try:
            await self._settle(tail, after)
            while not self.stopping:
                bell = tail.bell  # taken before looking: what comes in between rings it
                batch = tail.after(after)
                if batch is None:
                    batch = await self._page(job, after)
                if batch:
                    after = batch[-1].seq
                    yield batch
                elif tail.gone:
                    raise CursorLostError
                elif not await patience.rings(bell):
                    yield []
        finally:
            tail.watchers -= 1
            WATCHERS.labels("job").dec()
            patience.close()

    def is_newest(self, job: str, seq: int) -> bool:
        """Whether a job that was just followed has no event after `seq`, as far as is known."""
        tail = self._tails.get(job)
        return tail is None or tail.seq <= seq

    def is_the_end(self, job: str, seq: int) -> bool:
        """Whether who follows this job and has all up to `seq` has seen all that will come: it is over, and what came
        after its end (how its webhooks fared) is seen, too. More of that may come; a reconnect gets it."""
        tail = self._tails.get(job)
        return tail is not None and tail.ended and tail.seq <= seq

    # -- watchers

    def _join(self, job: str) -> _Tail:
        tail = self._tails.get(job)
        if tail is None:
            tail = self._tails[job] = _Tail(job, self._jobs)
            tail.reader = asyncio.create_task(self._read(tail), name=f"feed {job}")
        tail.watchers += 1
        tail.poked.set()  # nobody may have looked for a while
        return tail

    async def _settle(self, tail: _Tail, after: int) -> None:
        """Begin, with a cursor that the journal has. One beyond the end may only be ahead of us: look once more."""
        while not self.stopping:
            try:
                await tail.begin()
                if after > tail.seq:
                    await tail.look()
                break
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)
        if after > tail.seq and not self.stopping:
            raise CursorLostError

    async def _page(self, job: str, after: int) -> list[FeedEntry]:
        """A page of the journal itself, for a watcher that is far behind."""
        while not self.stopping:
            try:
                async with self._catching_up:
                    entries = one_batch(await self._jobs.events(job, after, PAGE))
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not entries or entries[0].seq != after + 1:
                raise CursorLostError
            return [FeedEntry(entry) for entry in entries]
        return []

    async def _read(self, tail: _Tail) -> None:
        channel = feed_channel(tail.job)
        await self._pokes.keep_looking(tail, channel)
        del self._tails[tail.job]
        await self._pokes.leave(tail.poked, channel)
