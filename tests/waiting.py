"""Waiting for what comes about by itself, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T | Literal[False] | None], seconds: float = 60.0, why: str = "") -> T:
    """The first answer of `look` that is true; fails, with the last answer, when none is within that time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, why or f"not within {seconds:g} s; last seen: {found!r}"
        time.sleep(0.01)
    return found


def within(look: Callable[[], T | Literal[False] | None], seconds: float) -> T:
    """The first answer of `look` that is true, for what is promised to come within so many seconds.

    Of the time from one look to the next a tenth of a second counts at most: what is more, the machine stood still.
    """
    spent, last = 0.0, time.monotonic()
    while not (found := look()):
        time.sleep(0.01)
        now = time.monotonic()
        spent, last = spent + min(now - last, 0.1), now
        assert spent < seconds, f"not within {seconds:g} s; last seen: {found!r}"
    return found
