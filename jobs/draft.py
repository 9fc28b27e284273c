"""A decision in the making: events are applied as they are written, so each rule sees the job as it will be."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from callsheet.jobs import events as e
from callsheet.jobs import webhooks
from callsheet.jobs.effects import (
    ClearTimer,
    Dispatch,
    Effect,
    Erase,
    Interrupt,
    OutboxEffect,
    SetTimer,
    Tidy,
    Withdraw,
)
from callsheet.jobs.evolve import evolve
from callsheet.jobs.job import Job, StageState

StopReason = Literal["cancelled", "job_failed"]


class Policy(msgspec.Struct, frozen=True):
    """The times the rules work with, in milliseconds."""

    lost_after: int = 8_000
    cancel_grace: int = 5_000
    retention: int = 7 * 24 * 3600 * 1000
    tombstone: int = 7 * 24 * 3600 * 1000
    max_losses: int = 5
    # After each failed try of a webhook: what the Standard Webhooks document and those who follow it recommend.
    webhook_delays: tuple[int, ...] = (5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 36_000_000)


class Outcome(msgspec.Struct, frozen=True):
    """What the sender is told: done, or refused with a permanent code; and the job's status and seq after it.

    `handed_on`: the stage and the token that the worker who sent a success runs next, if it got one. `request`: that of
    the command; who repeats its name for something else is told by it.
    """

    ok: bool
    code: str
    status: str
    seq: int
    detail: str = ""
    handed_on: tuple[str, int] | None = None
    request: str = ""


class Decision(msgspec.Struct, frozen=True):
    """What follows from one message: events for the journal, effects to carry out, an outcome for the sender."""

    events: tuple[e.Event, ...]
    effects: tuple[Effect, ...]
    outcome: Outcome
    job: Job | None


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Draft:
    """Collects events and effects of one decision over an existing job."""

    def __init__(self, job: Job, now: int, jitter: float, policy: Policy) -> None:
        self.job = job
        self.now = now
        self._at = rfc3339(now)  # once: writing it for each event was a tenth of what a host does
        self.jitter = jitter
        self.policy = policy
        self.events: list[e.Event] = []
        self._timers: dict[str, SetTimer | ClearTimer] = {}
        self._others: list[Effect] = []
        self.handed_on: tuple[str, int] | None = None

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What to carry out. Each timer is named once, by the last word on it, so that their order means nothing."""
        return (*self._timers.values(), *self._others)

    def effect(self, effect: OutboxEffect | Withdraw | Erase) -> None:
        """Add an effect; timers have their own methods."""
        self._others.append(effect)

    def emit(self, body: e.Body, stage: str | None = None) -> e.Event:
        """Write the next event and apply it."""
        attempt = self.job.attempt + isinstance(body, e.JobRetried)
        event = e.Event(self.job.seq + 1, type(body).__name__, self._at, attempt, body, stage)
        self.job = evolve(self.job, event)
        self.events.append(event)
        return event

    def timer(self, name: str, token: int, delay: float) -> None:
        """Have the job told `Fired(name, token)` after `delay` milliseconds."""
        self._timers[name] = SetTimer(name, token, self.now + int(delay))

    def time_after(self, delay: float) -> str:
        """The time `delay` milliseconds from now, RFC 3339."""
        return rfc3339(self.now + int(delay))

    def clear(self, *names: str) -> None:
        """Drop these timers, whether they are set or not."""
        self._timers |= {name: ClearTimer(name) for name in names}

    # -- the flow of a pipeline

    def advance(self, worker: str = "", queue: str = "") -> None:
        """Dispatch every stage that can run now; end the job when nothing is left to run.

        A `worker` that has just run a stage of this `queue` gets the first of them: the broker, the way to another
        worker and the claim would take longer than many a stage, and its files are at hand there.
        """
        while self._expand_one():
            pass
        for state in list(self.job.stages.values()):
            if not self._ready(state):
                continue
            if worker and self.job.spec(state).queue == queue:
                self.hand_on(state, worker)
                worker = ""
            else:
                self.dispatch(state)
        if all(self.job.settled(s) for s in self.job.stages.values()):
            self._end(e.JobCompleted(self._expiry()))

    def dispatch(self, state: StageState) -> None:
        """Offer the stage to the workers, under a new token."""
        queue = self.job.spec(state).queue
        event = self.emit(e.StageDispatched(queue), state.name)
        self.effect(Dispatch(state.name, event.seq, queue))

    def hand_on(self, state: StageState, worker: str) -> None:
        """Give the stage to a worker that is there already, under a new token."""
        event = self.emit(e.StageDispatched(self.job.spec(state).queue), state.name)
        self.start(self.job.stages[state.name], worker)
        self.handed_on = (state.name, event.seq)

    def start(self, state: StageState, worker: str) -> None:
        """The dispatch is this worker's: from here on it has to show that it is alive, and to be done in time."""
        self.leave(state)
        self.emit(e.StageStarted(state.token, worker), state.name)
        self.timer(f"deadline:{state.name}", state.token, self.job.spec(state).deadline * 1000)
        self.alive(state)

    def alive(self, state: StageState) -> None:
        """A sign of life puts off the moment at which the worker counts as lost."""
        self.timer(f"alive:{state.name}", state.token, self.policy.lost_after)

    def _ready(self, state: StageState) -> bool:
        return state.status == "waiting" and state.retry_at is None and self._needs_met(state)

    def _needs_met(self, state: StageState) -> bool:
        needs = self.job.spec(state).needs
        return all(self.job.settled(s) for need in needs for s in self.job.instances(need))

    def _expand_one(self) -> bool:
        for state in self.job.stages.values():
            spec = self.job.spec(state)
            folded = spec.each is not None and state.name == spec.name
            if folded and state.status == "waiting" and self._needs_met(state):
                source = self.job.stages[str(spec.each)]
                self.emit(e.StageExpanded(source.items or ()), state.name)
                return True
        return False

    # -- ends

    def fail(self, state: StageState, error: e.StageFailed) -> None:
        """The job ends because this stage failed for good; what else runs is stopped."""
        self.stop_all("job_failed")
        body = e.JobFailed(error.code, error.message, state.name, error.retryable, self._expiry())
        self._end(body)

    def cancelled(self) -> None:
        """The cancel is done: nothing of the job runs any more."""
        self._end(e.JobCancelled(self._expiry()))

    def stop_all(self, reason: StopReason) -> None:
        """Stop every stage that a worker has or may get; interrupt those that run."""
        for state in list(self.job.stages.values()):
            if state.status in ("dispatched", "running"):
                self.stop(state, reason)
            elif state.status == "waiting":
                self.clear(f"retry:{state.name}")

    def stop(self, state: StageState, reason: StopReason) -> None:
        """Stop one stage: its token is void from here on."""
        if state.status == "running":
            self.interrupt(state)
        self.leave(state)
        self.emit(e.StageStopped(reason), state.name)

    def interrupt(self, state: StageState) -> None:
        """Have the worker that runs this dispatch kill it."""
        self.effect(Interrupt(state.name, state.token))

    def leave(self, state: StageState) -> None:
        """The stage's current dispatch is over: its timers and its place in the outbox go."""
        self.clear(f"alive:{state.name}", f"deadline:{state.name}", f"retry:{state.name}")
        self.effect(Withdraw(state.token))

    def _end(self, body: e.Body) -> None:
        event = self.emit(body)
        self.clear("grace")
        self.effect(Tidy(tuple(self._kept_folders()), event.seq))
        self.timer("expire", event.attempt, self.policy.retention)
        webhooks.announce(self)

    def _kept_folders(self) -> Iterable[str]:
        kept = {ref.folder for s in self.job.stages.values() if s.status == "succeeded" for ref in s.outputs}
        return sorted(kept)

    def _expiry(self) -> str:
        return self.time_after(self.policy.retention)
