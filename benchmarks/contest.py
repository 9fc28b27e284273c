"""How a contestant is asked: all jobs are handed in at once, and the clock runs until the last one is done."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from benchmarks.stand import Stand, until

STAGES = ("first", "second", "third")
SLOTS = 2  # stages at once: that many processes, one stage at a time in each
WARM_UP = 4  # jobs before the clock starts: connections, imports and scripts are there by then
PATIENCE = 300.0
FEW = 10


class Contestant(Protocol):
    """Somebody who runs jobs of three stages that report twice each."""

    name: str
    note: str

    def missing(self, stand: Stand) -> str:
        """Why it cannot be measured here; '' if it can."""
        ...

    def jobs_per_second(self, stand: Stand, jobs: int) -> float:
        """Start it on an empty Redis, warm it up, hand in the jobs, stop it."""
        ...


def rate(jobs: int, hand_in: Callable[[int], None], done: Callable[[], int]) -> float:
    """Jobs a second. `done`: how many are, counted from the start of all."""
    hand_in(WARM_UP)
    until(lambda: done() >= WARM_UP, "the first jobs are done", patience=PATIENCE)
    begun = time.perf_counter()
    hand_in(jobs)
    return jobs / (until(lambda: done() >= WARM_UP + jobs, "all jobs are done", patience=PATIENCE, every=0.02) - begun)


def few_at_a_time(waiting: dict[str, None], over: Callable[[Sequence[str]], list[bool]]) -> dict[str, None]:
    """What still waits, after a look at the oldest ones, and at the next ones if all of those are over."""
    while some := list(islice(waiting, FEW)):
        seen = over(some)
        for name in (name for name, is_over in zip(some, seen, strict=True) if is_over):
            del waiting[name]
        if not all(seen):
            break
    return waiting


def not_installed(module: str) -> str:
    """Why a package cannot be measured, if it is not there."""
    return "" if importlib.util.find_spec(module) else f"{module} is not installed (the extra `bench` has it)"
