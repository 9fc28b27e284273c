"""What an upload may be at most, and what work on it may use.

One value per process: an entry point sets it once, everybody else reads it.
"""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Bounds that are checked before anything is decoded.

    `bytes`: size of the file. `min_seconds`, `max_seconds`: its length. `streams`: tracks of any kind.
    `pixels`: width x height of a frame; the default holds 8K UHD (7680 x 4320) and refuses what is far beyond it.
    `threads`: cores that one stage may keep busy. `addresses`: exact `host:port` that an address which a client gives
    may lead to though it is not public.
    """

    bytes: int = 500 * 1024 * 1024
    min_seconds: float = 1.0
    max_seconds: float = 4 * 3600.0
    streams: int = 32
    pixels: int = 36_000_000
    threads: int = 1
    addresses: frozenset[str] = frozenset()


_current = Limits()


def configure(limits: Limits) -> None:
    """Set the limits of this process. Called once, when it starts."""
    global _current  # noqa: PLW0603  (the one setting of the room; a parameter everywhere would say less)
    _current = limits


def current() -> Limits:
    """The limits in force."""
    return _current
