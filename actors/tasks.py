"""Ending asyncio tasks for certain, and waiting within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

RETRY_SECONDS = 0.2


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these tasks and wait for their end.

    More than once where needed: before Python 3.12 a cancel that comes together with the answer of Redis gets lost in
    `asyncio.wait_for`, which redis-py calls; a single one left 1 of 30 WebSockets open for good.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=RETRY_SECONDS)


class Bell:
    """Wakes all who wait for it, once: then it is rung for good."""

    def __init__(self) -> None:
        self.rung = False
        self._waiting: dict[asyncio.Future[bool], None] = {}  # in the order in which they came

    def ring(self) -> None:
        """Wake them."""
        self.rung = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(True)

    async def wait(self, waiting: asyncio.Future[bool]) -> bool:
        """Wait until it is rung, or somebody else sets a result."""
        self._waiting[waiting] = None
        try:
            return await waiting
        finally:
            del self._waiting[waiting]


class Patience:
    """Waits for one bell after the other, `seconds` at most for each. One timer serves all the waits: a timeout of its
    own for each wait of a thousand watchers was a tenth of what an event costs. Close it."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds, self._due = seconds, 0.0
        self._waiting: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def rings(self, bell: Bell) -> bool:
        """Whether the bell rings within that time."""
        if bell.rung:
            return True
        self._due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._look)
        self._waiting = self._loop.create_future()
        return await bell.wait(self._waiting)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self._waiting.set_result(False)


async def rings(bell: asyncio.Event, seconds: float) -> bool:
    """Whether the bell rings within that time."""
    try:
        async with asyncio.timeout(seconds):
            return await bell.wait()
    except TimeoutError:
        return False
