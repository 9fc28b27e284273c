"""Work that blocks, done by another thread than the one that serves everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def unbroken(work: Callable[..., T], *args: Any) -> T:
    """Run in a thread, and stay until it is done even when cancelled: no file is closed under somebody who writes."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
