"""How many requests somebody may send: one bucket each in Redis, so that it holds over all processes (lua/rate.lua).

The buckets lie with the broker, whose Redis writes nothing to a disk: to lose them is harmless, and an fsync for each
request would cost more than most requests do. A bucket that is full again expires, so as many are kept as have sent a
request in the last few seconds. While that Redis is away everybody passes: what holds then is all the other limits.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import msgspec
import redis.asyncio as aioredis
import structlog

from callsheet.actors.tenants.names import bucket
from callsheet.actors.wire import REDIS_AWAY

log = structlog.get_logger("api")
PATIENCE_SECONDS = 2.0
PAUSE_SECONDS = 5.0  # after a failure nobody waits for the next one
MICROS = 1_000_000
_SCRIPT = files("callsheet.actors").joinpath("lua/rate.lua").read_text()


class Verdict(msgspec.Struct, frozen=True):
    """Whether a request may pass; how many more may at once; seconds until the burst is whole, and to wait."""

    allowed: bool
    remaining: int
    reset: float
    wait: float


class Counts:
    """What is counted with the broker, for an event loop."""

    def __init__(self, redis_url: str) -> None:
        self._redis: Any = aioredis.Redis.from_url(
            redis_url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS, protocol=2
        )
        self._away_until = 0.0

    async def ask(self, question: Callable[[Any], Awaitable[Any]]) -> Any:
        """What it answers to that; None: nobody knows."""
        if time.monotonic() < self._away_until:
            return None
        try:
            return await question(self._redis)
        except REDIS_AWAY as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("requests are not counted", why=type(error).__name__)
            return None

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class Rates(Counts):
    """The buckets of everybody."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(redis_url)
        self._script = self._redis.register_script(_SCRIPT)

    async def take(self, who: str, rate: float, burst: int) -> Verdict | None:
        """Count one request of somebody who may send `rate` a second, `burst` at once. None: nobody knows."""
        answer = await self.ask(lambda _: self._script(keys=[bucket(who)], args=[MICROS / rate, burst]))
        if answer is None:
            return None
        allowed, remaining, reset, wait = answer
        return Verdict(bool(allowed), remaining, reset / MICROS, wait / MICROS)
