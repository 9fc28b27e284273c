"""What waits for its turn, so that nobody who is slow holds up anybody else: a line for each tenant and destination.

At most so many are under way in all, so many of a tenant and so many at a destination. Whoever may start is taken from
the lines in turn, so a long line costs those in it and nobody else.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Lane(NamedTuple):
    """Whose it is, and where it goes (`host:port`)."""

    tenant: str
    destination: str


class Lanes(Generic[T]):
    """Bounded lines. Not for several threads."""

    def __init__(
        self, *, at_once: int, of_a_tenant: int, at_a_destination: int, waiting: int, waiting_in_a_lane: int
    ) -> None:
        self._bounds = (at_once, of_a_tenant, at_a_destination)
        self._most, self._most_in_a_lane = waiting, waiting_in_a_lane
        self._lines: dict[Lane, deque[T]] = {}
        self._of: Counter[str] = Counter()
        self._at: Counter[str] = Counter()
        self.active = 0
        self.waiting = 0

    def join(self, lane: Lane, item: T) -> bool:
        """Stand in line; False when it is too long already."""
        line = self._lines.get(lane, ())
        if self.waiting >= self._most or len(line) >= self._most_in_a_lane:
            return False
        self._lines.setdefault(lane, deque()).append(item)
        self.waiting += 1
        return True

    def start(self) -> tuple[Lane, T] | None:
        """The next one that may start, if any: `end` it when it is over."""
        lane = next((lane for lane in self._lines if self._may_start(lane)), None)
        if lane is None:
            return None
        line = self._lines.pop(lane)
        item = line.popleft()
        if line:
            self._lines[lane] = line  # behind all others
        self._count(lane, 1)
        self.waiting -= 1
        return lane, item

    def end(self, lane: Lane) -> None:
        """One of this lane is over."""
        self._count(lane, -1)

    def _may_start(self, lane: Lane) -> bool:
        at_once, of_a_tenant, at_a_destination = self._bounds
        free = self._of[lane.tenant] < of_a_tenant and self._at[lane.destination] < at_a_destination
        return free and self.active < at_once

    def _count(self, lane: Lane, by: int) -> None:
        self.active += by
        for counter, name in ((self._of, lane.tenant), (self._at, lane.destination)):
            counter[name] += by
            if not counter[name]:
                del counter[name]
