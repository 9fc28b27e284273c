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


async def rings(bell: asyncio.Event, seconds: float) -> bool:
    """Whether the bell rings within that time."""
    try:
        async with asyncio.timeout(seconds):
            return await bell.wait()
    except TimeoutError:
        return False
