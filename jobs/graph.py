"""The graph of a pipeline: its stages, what each needs, and how each may fail. Checked when it is declared."""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec

STAGE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
MAX_STAGES = 32
FETCH = "fetch"  # the stage that goes before the others when the input is an address
MAX_FAN_OUT = 100
MAX_SECONDS = 7 * 24 * 3600  # a wait longer than a week is a mistake in the declaration
Queue = Literal["cpu", "io", "gpu"]


class GraphError(ValueError):
    """The declared stages do not form a pipeline."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a stage is tried within one attempt, and how long it waits in between.

    The delay before try n+1 is `min(cap, base * factor ** (n - 1)) * (1 - jitter * r)`, r in [0, 1) given from outside.
    """

    tries: int = 3
    base: float = 1.0
    factor: float = 2.0
    cap: float = 60.0
    jitter: float = 0.5

    def check(self) -> None:
        """Raise GraphError for numbers that make no delay."""
        if not (1 <= self.tries <= 100 and 1 <= self.factor <= 100 and 0 <= self.jitter <= 1):
            raise GraphError("a retry policy has 1 to 100 tries, a factor of 1 to 100 and a jitter of 0 to 1")
        if not 0 <= self.base <= self.cap <= MAX_SECONDS:
            raise GraphError(f"a retry policy has 0 <= base <= cap <= {MAX_SECONDS}")

    def delay(self, tries_done: int, r: float) -> float:
        """Seconds to wait after `tries_done` failed tries."""
        return min(self.cap, self.base * self.factor ** (tries_done - 1)) * (1.0 - self.jitter * r)


class StageSpec(msgspec.Struct, frozen=True):
    """One stage as the rules see it. `each` names the stage whose `items` this one fans out over.

    `reuse`: which code, in which version, makes its outputs, where those may serve again for the same inputs; "" where
    they may not. `uses`: the params it depends on; None for all.
    """

    name: str
    needs: tuple[str, ...] = ()
    queue: Queue = "cpu"
    deadline: float = 3600.0
    retry: RetryPolicy = RetryPolicy()
    each: str | None = None
    may_fail: bool = False
    weight: float = 1.0
    reuse: str = ""
    uses: tuple[str, ...] | None = None


def check_graph(stages: tuple[StageSpec, ...]) -> None:
    """Raise GraphError unless the stages are a graph that always ends."""
    if not 1 <= len(stages) <= MAX_STAGES:
        raise GraphError(f"a pipeline has 1 to {MAX_STAGES} stages, not {len(stages)}")
    seen: dict[str, StageSpec] = {}
    for stage in stages:
        _check_stage(stage, seen)
        seen[stage.name] = stage


def _check_stage(stage: StageSpec, before: dict[str, StageSpec]) -> None:
    if not STAGE_NAME.match(stage.name):
        raise GraphError(f"stage name {stage.name!r} is not of the form {STAGE_NAME.pattern}")
    if stage.name in before:
        raise GraphError(f"two stages are called {stage.name!r}")
    if stage.queue not in get_args(Queue):  # else no worker would ever take it
        raise GraphError(
            f"stage {stage.name!r} goes to the queue {stage.queue!r}; there are: {', '.join(get_args(Queue))}"
        )
    for need in stage.needs:
        if need not in before:
            raise GraphError(f"stage {stage.name!r} needs {need!r}, which is not declared before it")
    if stage.each is not None and stage.each not in stage.needs:
        raise GraphError(f"stage {stage.name!r} fans out over {stage.each!r} but does not need it")
    if stage.each is not None and before[stage.each].each is not None:
        raise GraphError(f"stage {stage.name!r} fans out over {stage.each!r}, which is itself a fan-out")
    if not (0 < stage.deadline <= MAX_SECONDS and 0 < stage.weight <= 1_000_000):
        raise GraphError(f"stage {stage.name!r} needs 0 < deadline <= {MAX_SECONDS} and 0 < weight <= 1,000,000")
    stage.retry.check()
