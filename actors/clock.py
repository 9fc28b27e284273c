"""The wall clock, in the unit of the rules. Where hosts must agree on a time it is the journal server's instead."""

from __future__ import annotations

import time


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
