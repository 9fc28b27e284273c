"""The one connection on which a process is told where to look again.

The channels carry no event: losing what they say costs latency, never an event, since whoever listens looks by itself
now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

import structlog

from callsheet.actors.errors import CallsheetError
from callsheet.actors.tasks import RETRY_SECONDS, end_tasks, rings
from callsheet.actors.wire import REDIS_AWAY

log = structlog.get_logger("api")
LOOK_SECONDS = 2.0
LINGER_SECONDS = 5.0  # what is watched stays so long without watchers: they come back when their connection breaks
PATIENCE_SECONDS = 5.0
_OWN_CHANNEL = "cs:feed"  # keeps the connection subscribed while nothing is watched


class Tail(Protocol):
    """The end of something that grows, which watchers share."""

    watchers: int
    poked: asyncio.Event

    async def look(self) -> None:
        """Read what is new. Raises Unavailable."""


class Pokes:
    """The channels that this process listens to, each with the event to set when it says something."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._bells: dict[str, asyncio.Event] = {}
        self._pubsub: Any = None
        self._listener: asyncio.Task[None] | None = None
        self._subscribing = asyncio.Lock()

    async def keep_looking(self, tail: Tail, *channels: str) -> None:
        """Have the tail look whenever it is poked, and now and then, until nobody has watched it for a while."""
        await self._hear(tail.poked, channels)
        unwatched = 0.0
        while tail.watchers or unwatched < LINGER_SECONDS:
            unwatched = 0.0 if tail.watchers else unwatched + LOOK_SECONDS
            await rings(tail.poked, LOOK_SECONDS)
            tail.poked.clear()
            try:
                if tail.watchers:
                    await tail.look()
            except CallsheetError:
                await asyncio.sleep(RETRY_SECONDS)  # watchers wait, and go on where they were
            except Exception:
                log.exception("feed failed", channel=channels[0])
                await asyncio.sleep(LOOK_SECONDS)

    async def leave(self, bell: asyncio.Event, *channels: str) -> None:
        """Listen to these channels no more, unless somebody else does by now."""
        async with self._subscribing:
            mine = [channel for channel in channels if self._bells.get(channel) is bell]
            for channel in mine:
                del self._bells[channel]
            if self._pubsub is not None and mine:
                with contextlib.suppress(*REDIS_AWAY):
                    await self._pubsub.unsubscribe(*mine)

    async def close(self) -> None:
        """Listen to nothing any more."""
        await end_tasks([self._listener] if self._listener else [])

    async def _hear(self, bell: asyncio.Event, channels: tuple[str, ...]) -> None:
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), name="feed")
        self._bells |= dict.fromkeys(channels, bell)
        async with self._subscribing:
            if self._pubsub is not None:
                with contextlib.suppress(*REDIS_AWAY):  # the listener subscribes to all when it reconnects
                    await self._pubsub.subscribe(*channels)

    async def _listen(self) -> None:
        while True:
            try:
                pubsub = await self._connect()
                while True:
                    # Not `listen`, which would never look whether the connection still lives.
                    self._ring(await pubsub.get_message(timeout=PATIENCE_SECONDS))
            except REDIS_AWAY:
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                await self._disconnect()

    def _ring(self, message: dict[str, Any] | None) -> None:
        """Have that channel's bell rung. Being told that we are subscribed is a reason, too: something may have come
        before."""
        bell = self._bells.get(message["channel"].decode()) if message else None
        if bell is not None:
            bell.set()

    async def _connect(self) -> Any:
        async with self._subscribing:
            self._pubsub = self._redis.pubsub()
            await self._pubsub.subscribe(_OWN_CHANNEL, *self._bells)
            return self._pubsub

    async def _disconnect(self) -> None:
        async with self._subscribing:
            pubsub, self._pubsub = self._pubsub, None
            with contextlib.suppress(*REDIS_AWAY):
                await pubsub.aclose()
