"""The live view of all jobs of a tenant: any number of watchers share one reader, as they do of a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from functools import cached_property
from itertools import islice

from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.feeds.job_feed import CursorLostError, Tails, Watched, one_batch
from callsheet.actors.feeds.tenant_log import Cursor, TenantEvent, TenantLog, cursor_text
from callsheet.actors.tasks import RETRY_SECONDS, Patience
from callsheet.actors.telemetry.metrics import WATCHERS

RENEW_SECONDS = 3600.0


class TenantEntry:
    """One event for watchers, and where it leaves them."""

    def __init__(self, event: TenantEvent, cursor: Cursor) -> None:
        self.cursor = cursor
        self.type = event.type
        self.raw = event.raw

    @cached_property
    def frame(self) -> bytes:
        """The event as SSE sends it."""
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor_text(self.cursor).encode(), self.type.encode(), self.raw)


def entries_after(cursor: Cursor, events: Sequence[TenantEvent]) -> list[TenantEntry]:
    """The events, each with the cursor after it."""
    numbers, entries = list(cursor), list[TenantEntry]()
    for event in events:
        numbers[event.partition] = event.number
        entries.append(TenantEntry(event, tuple(numbers)))
    return entries


class _Tail(Watched[TenantEntry]):
    """The end of a tenant's events. `count`: of all entries there ever were in the ring."""

    def __init__(self, jobs: Jobs, tenant: str) -> None:
        super().__init__()
        self.log = TenantLog(jobs, tenant)
        self.cursor: Cursor = ()
        self.count = 0
        self.lives = 0  # how often the events did not continue from where we were
        self._renewed = 0.0

    async def look(self) -> None:
        """Read what is new, once somebody has asked where the end is. Raises Unavailable."""
        async with self.looking:
            try:
                while self.cursor and await self._look_once():
                    pass
            except CursorLostError:
                self.cursor = ()
            if not self.cursor or time.monotonic() > self._renewed + RENEW_SECONDS:
                _, newest = await self.log.reach()  # which says, too, that the events are still wanted
                self._renewed = time.monotonic()
                if not self.cursor:
                    self._begin(newest)

    async def _look_once(self) -> bool:
        fresh = entries_after(self.cursor, await self.log.read(self.cursor))
        for entry in fresh:
            self.keep(entry)
        if fresh:
            self.cursor, self.count = fresh[-1].cursor, self.count + len(fresh)
            self.ring_bell()
        return bool(fresh)

    def _begin(self, cursor: Cursor) -> None:
        self.cursor, self.lives = cursor, self.lives + 1
        self.drop_all()
        self.ring_bell()

    def after(self, count: int) -> list[TenantEntry] | None:
        """The entries after the first `count`, [] when there are none yet, None when the ring does not reach back."""
        skip = count - (self.count - len(self.ring))
        return one_batch(islice(self.ring, skip, None)) if skip >= 0 else None


class TenantFeed(Tails[_Tail]):
    """All tenants that somebody watches in this process. Start it inside a running loop; close it when done."""

    async def start(self, tenant: str) -> Cursor:
        """A cursor that everything follows which is committed from now on. Raises Unavailable."""
        return (await TenantLog(self._jobs, tenant).reach())[1]

    async def history(self, tenant: str, after: Cursor | None, limit: int) -> tuple[list[TenantEntry], Cursor]:
        """A page of events, None: of the oldest there are, and the cursor after it. Raises CursorLostError."""
        log = TenantLog(self._jobs, tenant)
        oldest, _ = await log.reach()
        after = oldest if after is None else after
        entries = entries_after(after, await log.read(after, limit))
        return entries, entries[-1].cursor if entries else after

    async def follow(self, tenant: str, after: Cursor, idle: float) -> AsyncGenerator[list[TenantEntry], None]:
        """The events after a cursor for as long as the caller likes; an empty list after `idle` seconds without one.
        While Redis is away it waits. Ends when the feed stops. Raises CursorLostError."""
        tail = self._join(tenant)
        place: int | None = None  # in the ring, once the watcher is where the ring is
        WATCHERS.labels("tenant").inc()
        patience = Patience(idle)
        try:
            lives = await self._settle(tail)
            while not self.stopping:
                bell = tail.bell  # taken before looking: what comes in between rings it
                if tail.lives != lives:
                    raise CursorLostError
                batch = tail.after(place) if place is not None else None
                if batch is None:
                    place, target, count = None, tail.cursor, tail.count
                    batch = await self._page(tail, after, target)
                    reached = batch[-1].cursor if batch else after
                    place = count if reached == target else None
                elif place is not None:
                    place += len(batch)
                if batch:
                    after = batch[-1].cursor
                    yield batch
                elif place is not None and not await patience.rings(bell):
                    yield []
        finally:
            tail.watchers -= 1
            WATCHERS.labels("tenant").dec()
            patience.close()

    def _join(self, tenant: str) -> _Tail:
        tail = self._tails.get(tenant)
        if tail is None:
            tail = self._tails[tenant] = _Tail(self._jobs, tenant)
            tail.reader = asyncio.create_task(self._read(tenant, tail), name=f"feed of {tenant}")
        tail.watchers += 1
        return tail

    async def _settle(self, tail: _Tail) -> int:
        """Look for certain: the watcher's cursor may be from a moment ago. The life of the tail that it is in."""
        while not self.stopping:
            try:
                await tail.look()
                break
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)
        return tail.lives

    async def _page(self, tail: _Tail, after: Cursor, target: Cursor) -> list[TenantEntry]:
        """A page of what lies between a watcher and the end of the ring, and not beyond."""
        while not self.stopping and after != target:
            try:
                async with self._catching_up:
                    events = one_batch(await tail.log.read(after, until=target))
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not events:
                raise CursorLostError
            return entries_after(after, events)
        return []

    async def _read(self, tenant: str, tail: _Tail) -> None:
        channels: list[str] = []
        while not channels:
            try:
                channels = await tail.log.channels()
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)
        await self._pokes.keep_looking(tail, *channels)
        del self._tails[tenant]
        await self._pokes.leave(tail.poked, *channels)
