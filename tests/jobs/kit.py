"""A stage set for the rules: graphs, and Play, which drives decide() as the host does and checks it at each step."""

from __future__ import annotations

from typing import Any

from callsheet.jobs import messages as m
from callsheet.jobs.draft import Decision, Policy
from callsheet.jobs.effects import (
    ClearTimer,
    Deliver,
    Dispatch,
    Effect,
    Erase,
    Interrupt,
    RemoveFiles,
    SetTimer,
    Withdraw,
)
from callsheet.jobs.graph import RetryPolicy, StageSpec
from callsheet.jobs.job import FileRef, InputRef, Job, StageState
from callsheet.jobs.rules import decide
from tests.jobs.invariants import Watch

START = 1_700_000_000_000
TWICE = RetryPolicy(tries=2, base=1.0, factor=2.0, cap=60.0, jitter=0.5)

LINEAR = (StageSpec("a", retry=TWICE), StageSpec("b", ("a",), retry=TWICE), StageSpec("c", ("b",), queue="io"))
DIAMOND = (
    StageSpec("a"),
    StageSpec("b", ("a",), retry=TWICE, weight=3.0),
    StageSpec("c", ("a",), retry=TWICE, may_fail=True),
    StageSpec("d", ("b", "c")),
)
FAN = (
    StageSpec("plan", retry=TWICE),
    StageSpec("clip", ("plan",), each="plan", may_fail=True, retry=TWICE),
    StageSpec("join", ("plan", "clip"), retry=TWICE),
)
STRICT_FAN = (
    StageSpec("plan", may_fail=True),
    StageSpec("side"),
    StageSpec("clip", ("plan",), each="plan", retry=TWICE),
    StageSpec("join", ("clip", "side")),
)
GRAPHS = {"linear": LINEAR, "diamond": DIAMOND, "fan": FAN, "strict_fan": STRICT_FAN}


HOOK = "https://example.com/hook"


def submission(
    graph: tuple[StageSpec, ...] = LINEAR, fingerprint: str = "f", callback_url: str | None = None, **params: Any
) -> m.Submit:
    upload = InputRef("talk.mp3", 1000, "ab" * 32, "audio/mpeg")
    return m.Submit("j1", "t1", "demo", params, graph, upload, fingerprint, callback_url)


def types(decision: Decision) -> list[str]:
    """The kinds of the events of a decision."""
    return [event.type for event in decision.events]


class Play:
    """One job, with the commit (timers, outbox) modelled as two dicts. Every message travels as its bytes."""

    def __init__(self, graph: tuple[StageSpec, ...] = LINEAR, policy: Policy | None = None, **params: Any) -> None:
        self.policy = policy or Policy()
        self.now = START
        self.jitter = 0.0
        self.current: Job | None = None
        self.timers: dict[str, SetTimer] = {}
        self.late: list[m.Fired] = []  # rung, but not delivered yet
        self.dispatches: dict[int, Dispatch] = {}
        self.deliveries: list[Deliver] = []  # in the outbox
        self.to_remove = False
        self.sound = True  # no check has failed yet
        self.told: list[m.Message] = []
        self.watch = Watch()
        self.tell(submission(graph, **params))

    @property
    def job(self) -> Job:
        assert self.current is not None
        return self.current

    def stage(self, name: str) -> StageState:
        return self.job.stages[name]

    def statuses(self) -> dict[str, str]:
        return {name: s.status for name, s in self.job.stages.items()}

    def tell(self, message: m.Message) -> Decision:
        """Decide, check what must always hold, commit."""
        self.sound = False
        message = m.decode_message(m.encode_message(message))
        self.told.append(message)
        decision = decide(self.current, message, self.now, self.jitter, self.policy)
        self.watch.step(self.current, message, decision)
        self.current = decision.job
        for effect in decision.effects:
            self._commit(effect)
        self.watch.nothing_is_stuck(self)
        self.sound = True
        return decision

    def _commit(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                self.timers[effect.timer] = effect
            case ClearTimer():
                self.timers.pop(effect.timer, None)
            case Dispatch():
                self.dispatches[effect.token] = effect
            case Deliver() if effect not in self.deliveries:
                self.deliveries.append(effect)
            case Withdraw():
                self.dispatches.pop(effect.token, None)
            case RemoveFiles():
                self.to_remove = True
            case Erase():
                self.current, self.to_remove = None, False
                self.late.clear()
                self.deliveries.clear()
                self.watch = Watch()

    # What a worker says.

    def claim(self, stage: str, worker: str = "w1") -> Decision:
        return self.tell(m.Claim(stage, self.stage(stage).token, worker))

    def succeed(self, stage: str, **report: Any) -> Decision:
        """Claim the stage unless it runs, and succeed."""
        if self.stage(stage).status == "dispatched":
            self.claim(stage)
        return self.tell(m.Succeeded(stage, self.stage(stage).token, **report))

    def fail(self, stage: str, *, retryable: bool = False, code: str = "broken") -> Decision:
        """Claim the stage unless it runs, and fail."""
        if self.stage(stage).status == "dispatched":
            self.claim(stage)
        return self.tell(m.Failed(stage, self.stage(stage).token, code, "it broke", retryable))

    def stop(self, stage: str, reason: Any = "interrupted") -> Decision:
        return self.tell(m.Stopped(stage, self.stage(stage).token, reason))

    # What a receiver of webhooks brings about.

    def delivered(self) -> Decision:
        """The delivery that is under way succeeds."""
        effect = self.deliveries.pop(0)
        return self.tell(m.Delivered(effect.webhook, effect.n, 204, 0.25))

    def undelivered(self, code: str = "timeout") -> Decision:
        """The delivery that is under way fails."""
        effect = self.deliveries.pop(0)
        return self.tell(m.DeliveryFailed(effect.webhook, effect.n, code, None, 15.0))

    # What the timer service does.

    def ring(self, timer: str, late: int = 0) -> m.Fired:
        """The timer comes due: it is not set any more, and its message is on its way."""
        due = self.timers.pop(timer)
        self.now = max(self.now, due.due + late)
        fired = m.Fired(timer, due.token, late)
        self.late.append(fired)
        return fired

    def deliver(self, fired: m.Fired) -> Decision:
        self.late.remove(fired)
        return self.tell(fired)

    def fire(self, timer: str, late: int = 0) -> Decision:
        return self.deliver(self.ring(timer, late))


def output(play: Play, stage: str, name: str) -> FileRef:
    """A file as the running stage would publish it: in a folder of its attempt and token."""
    state = play.stage(stage)
    folder = f"{state.attempt}/{stage}-{state.token}"
    return FileRef(name, folder, "text/plain", 3, "cd" * 32, artifact=True)


def interrupts(decision: Decision) -> list[Interrupt]:
    return [effect for effect in decision.effects if isinstance(effect, Interrupt)]


def body(decision: Decision, kind: type[Any]) -> Any:
    """The only event of this kind in the decision."""
    (found,) = [event.data for event in decision.events if isinstance(event.data, kind)]
    return found


def in_status(status: str, callback_url: str | None = None) -> Play | None:
    """A play whose job is in this status; None for a job that does not exist."""
    if status == "absent":
        return None
    play = Play(LINEAR, callback_url=callback_url)
    if status in ("running", "cancelling", "failed"):
        play.claim("a")
    if status in ("cancelling", "cancelled"):
        play.tell(m.Cancel())
    if status == "failed":
        play.fail("a")
    if status in ("completed", "expired"):
        for name in "abc":
            play.succeed(name)
    if status == "expired":
        play.tell(m.Forget())
    assert play.job.status == status
    return play


def sample(kind: type[Any], token: int, attempt: int, webhook: int = 1) -> m.Message:
    """A message of this kind, as right as it can be: from stage `a`, with its current token, or of this webhook."""
    samples: dict[type[Any], m.Message] = {
        m.Submit: submission(fingerprint="another"),
        m.Cancel: m.Cancel(),
        m.Retry: m.Retry(),
        m.Forget: m.Forget(),
        m.Claim: m.Claim("a", token, "w1"),
        m.Heartbeat: m.Heartbeat("a", token),
        m.Progress: m.Progress("a", token, 1, 0.5),
        m.LogLines: m.LogLines("a", token, 1, ("line",)),
        m.Partial: m.Partial("a", token, 1, {"x": 1}),
        m.Succeeded: m.Succeeded("a", token),
        m.Failed: m.Failed("a", token, "broken", "it broke"),
        m.Stopped: m.Stopped("a", token),
        m.Fired: m.Fired("expire", attempt),
        m.FilesRemoved: m.FilesRemoved(),
        m.Redeliver: m.Redeliver(),
        m.Delivered: m.Delivered(webhook, 1, 204, 0.25),
        m.DeliveryFailed: m.DeliveryFailed(webhook, 1, "timeout"),
        m.DeliveryPostponed: m.DeliveryPostponed(webhook, 1),
    }
    return samples[kind]
