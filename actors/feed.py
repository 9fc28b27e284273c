"""The live view of journals: any number of watchers of a job share one reader of its journal.

A commit publishes "look again" on the job's channel. Whoever hears it reads the journal from where it stopped, once
for all watchers, and wakes them. The channel carries no event, so losing what it says costs latency, never an event:
without it the journal is looked at every two seconds all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from functools import cached_property
from itertools import islice
from typing import Any

import structlog
from redis.exceptions import RedisError

from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.keys import feed_channel
from callsheet.actors.tasks import end_tasks
from callsheet.actors.wire import EventEntry

log = structlog.get_logger("api")
RING = 512  # events of a job kept for its watchers; who is further behind reads the journal
PAGE = 64  # events handed to a watcher at once: what a watcher that stops reading holds on to
LOOK_SECONDS = 2.0
LINGER_SECONDS = 5.0  # a job stays watched so long without watchers: they come back when their connection breaks
RETRY_SECONDS = 0.2
PATIENCE_SECONDS = 5.0
_OWN_CHANNEL = "cs:feed"  # keeps the connection subscribed while no job is watched
_PREFIX = feed_channel("").encode()


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


class _Tail:
    """The end of one job's journal, as far as it was read."""

    def __init__(self, job: str, jobs: Jobs) -> None:
        self.job = job
        self.watchers = 0
        self.seq = 0
        self.gone = False
        self.ring: deque[FeedEntry] = deque(maxlen=RING)
        self.bell = asyncio.Event()  # rung, and replaced, when there is more to see
        self.poked = asyncio.Event()
        self.reader: asyncio.Task[None] | None = None
        self._jobs = jobs
        self._begun = False
        self._looking = asyncio.Lock()

    async def begin(self) -> None:
        """Read the end of what there is, once. Raises Unavailable."""
        async with self._looking:
            if not self._begun:
                snapshot = await self._jobs.job(self.job)
                self.seq = max(self.seq, (snapshot.seq if snapshot else 0) - RING)
                await self._look()
                self._begun = True

    async def look(self) -> None:
        """Read what is new. Raises Unavailable."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        while await self._look_once():
            pass

    async def _look_once(self) -> bool:
        # From the last one known on: if even that is not there any more, neither is the journal.
        entries = await self._jobs.events(self.job, max(0, self.seq - 1), RING)
        fresh = [FeedEntry(entry) for entry in entries if entry.seq > self.seq]
        self.gone = self.seq > 0 and not entries
        if fresh and self.ring and fresh[0].seq != self.seq + 1:
            self.ring.clear()  # the ring holds a run without a gap, or it could not be counted on
        self.ring.extend(fresh)
        if fresh:
            self.seq = fresh[-1].seq
        if fresh or self.gone:
            self.ring_bell()
        return bool(fresh)

    def ring_bell(self) -> None:
        """Wake everybody who waits."""
        bell, self.bell = self.bell, asyncio.Event()
        bell.set()

    def after(self, seq: int) -> list[FeedEntry] | None:
        """The next events after `seq`, [] when there are none yet, None when the ring does not reach back so far."""
        if seq >= self.seq:
            return []
        skip = seq + 1 - self.ring[0].seq if self.ring else -1
        return list(islice(self.ring, skip, skip + PAGE)) if skip >= 0 else None


class Feed:
    """All jobs that somebody watches in this process. Start it inside a running loop; close it when done."""

    def __init__(self, jobs: Jobs) -> None:
        self.stopping = False
        self._jobs = jobs
        self._tails: dict[str, _Tail] = {}
        self._pubsub: Any = None
        self._listener: asyncio.Task[None] | None = None
        self._subscribing = asyncio.Lock()

    async def follow(self, job: str, after: int, idle: float) -> AsyncGenerator[list[FeedEntry], None]:
        """The events after `after`, in order, without gap or repeat, for as long as the caller likes; an empty list
        after `idle` seconds without one. While Redis is away it waits. Ends when the feed stops. Raises CursorLost.
        """
        tail = self._join(job)
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
                elif not await _rings(bell, idle):
                    yield []
        finally:
            tail.watchers -= 1

    def is_newest(self, job: str, seq: int) -> bool:
        """Whether a followed job has no event after `seq`, as far as is known."""
        tail = self._tails.get(job)
        return tail is None or tail.seq <= seq

    def stop(self) -> None:
        """Let every watcher go."""
        self.stopping = True
        for tail in self._tails.values():
            tail.ring_bell()

    async def close(self) -> None:
        """Stop, and leave nothing running."""
        self.stop()
        await end_tasks(t for t in (self._listener, *(tail.reader for tail in self._tails.values())) if t)
        self._tails.clear()

    # -- watchers

    def _join(self, job: str) -> _Tail:
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="feed")
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
                entries = await self._jobs.events(job, after, PAGE)
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not entries or entries[0].seq != after + 1:
                raise CursorLostError
            return [FeedEntry(entry) for entry in entries]
        return []

    # -- the reader of one job

    async def _read(self, tail: _Tail) -> None:
        await self._subscribe(tail.job)
        unwatched = 0.0
        while tail.watchers or unwatched < LINGER_SECONDS:
            unwatched = 0.0 if tail.watchers else unwatched + LOOK_SECONDS
            await _rings(tail.poked, LOOK_SECONDS)
            tail.poked.clear()
            try:
                if tail.watchers:
                    await tail.look()
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)  # watchers wait, and go on where they were
            except Exception:
                log.exception("feed failed", job=tail.job)
                await asyncio.sleep(LOOK_SECONDS)
        del self._tails[tail.job]
        await self._unsubscribe(tail.job)

    # -- the one connection that is told where to look

    async def _subscribe(self, job: str) -> None:
        async with self._subscribing:
            if self._pubsub is not None:
                with contextlib.suppress(RedisError, OSError):  # the listener subscribes to all when it reconnects
                    await self._pubsub.subscribe(feed_channel(job))

    async def _unsubscribe(self, job: str) -> None:
        async with self._subscribing:
            if self._pubsub is not None and job not in self._tails:
                with contextlib.suppress(RedisError, OSError):
                    await self._pubsub.unsubscribe(feed_channel(job))

    async def _listen(self) -> None:
        while True:
            try:
                pubsub = await self._connect()
                while True:
                    # Not `listen`, which would never look whether the connection still lives.
                    self._poke(await pubsub.get_message(timeout=PATIENCE_SECONDS))
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                await self._disconnect()

    def _poke(self, message: dict[str, Any] | None) -> None:
        """Have the job of that channel looked at. Being told that we are subscribed is a reason, too: something may
        have come before."""
        channel = message["channel"].removeprefix(_PREFIX).decode() if message else ""
        if (tail := self._tails.get(channel)) is not None:
            tail.poked.set()

    async def _connect(self) -> Any:
        async with self._subscribing:
            self._pubsub = self._jobs.redis.pubsub()
            await self._pubsub.subscribe(_OWN_CHANNEL, *(feed_channel(job) for job in self._tails))
            return self._pubsub

    async def _disconnect(self) -> None:
        async with self._subscribing:
            pubsub, self._pubsub = self._pubsub, None
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()


async def _rings(bell: asyncio.Event, seconds: float) -> bool:
    """Whether the bell rings within that time."""
    try:
        async with asyncio.timeout(seconds):
            return await bell.wait()
    except TimeoutError:
        return False
