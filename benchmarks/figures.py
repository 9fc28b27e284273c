"""A measured figure: one value a repetition, what it should be, and what was measured with it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

Bound = Literal["at least", "at most"]


class Figure(msgspec.Struct, frozen=True):
    """`values`: one a repetition. `target` with its `bound` where the project has set itself one."""

    name: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    bound: Bound = "at least"
    note: str = ""

    @property
    def median(self) -> float:
        """What the figure is said to be."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None where there is none."""
        if self.target is None:
            return None
        return self.median >= self.target if self.bound == "at least" else self.median <= self.target


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency(
    name: str, samples: Sequence[Sequence[float]], *, target: float | None = None, note: str = ""
) -> list[Figure]:
    """p50 and p99 in ms of the seconds measured, a repetition each; the target is for p99."""
    p50, p99 = (tuple(1000 * percentile(run, share) for run in samples) for share in (0.5, 0.99))
    count = f"{len(samples[0]):,} samples a repetition"
    note = f"{note}; {count}" if note else count
    return [
        Figure(f"{name}, p50", "ms", p50, note=note),
        Figure(f"{name}, p99", "ms", p99, target, "at most", note),
    ]


def shown(value: float) -> str:
    """A value with three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
