"""What must hold after every decision (I1, I2, I10 to I14), and that nothing of a job can be stuck (I15)."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING, Any

import msgspec

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Decision
from callsheet.jobs.effects import ClearTimer, SetTimer, decode_effect, encode_effect
from callsheet.jobs.evolve import evolve
from callsheet.jobs.job import Job, StageState

if TYPE_CHECKING:
    from tests.jobs.kit import Play

LIVE = ("queued", "running")
ENDED = ("completed", "failed", "cancelled")

# Written out by hand, from the promises and not from the code.
JOB_EDGES = {
    *[("absent", "queued"), ("queued", "running"), ("cancelling", "cancelled")],
    *[(live, after) for live in LIVE for after in ("cancelling", "completed", "failed")],
    *[(ended, after) for ended in ENDED for after in ("queued", "expired")],
}
STAGE_EDGES = {
    *[("waiting", "dispatched"), ("waiting", "skipped"), ("dispatched", "running"), ("dispatched", "stopped")],
    *[("running", after) for after in ("succeeded", "failed", "stopped", "waiting")],
    ("failed", "waiting"),
}
MAX_WEBHOOKS, MAX_PENDING = 20, 10
TERMINAL_TYPES = ("JobCompleted", "JobFailed", "JobCancelled")
FORBIDDEN_AFTER_CANCEL = ("JobCompleted", "StageStarted", "StageDispatched", "StageSucceeded")


class Watch:
    """Follows one job through all its decisions."""

    def __init__(self) -> None:
        self.events: list[e.Event] = []
        self.ends: Counter[int] = Counter()
        self.cancelled: set[int] = set()

    def step(self, before: Job | None, message: Any, decision: Decision) -> None:
        """One decision, checked against the job it started from."""
        self._outcome(before, decision)
        if not _may_write(before, message):
            assert not decision.events, "I13: a report with an old token counts"
        job = before
        for event in decision.events:
            decoded = e.decode_event(e.encode_event(event))
            assert decoded == event
            job = self._event(job, decoded)
        assert job == decision.job, "I2: folding the events gives another job"
        _same_when_stored(decision)

    def _outcome(self, before: Job | None, decision: Decision) -> None:
        job, outcome = decision.job, decision.outcome
        assert (outcome.status, outcome.seq) == ((job.status, job.seq) if job else ("absent", 0))
        if not outcome.ok:
            assert (decision.events, decision.effects, decision.job) == ((), (), before), "a refusal changes something"
        timers = [effect.timer for effect in decision.effects if isinstance(effect, SetTimer | ClearTimer)]
        assert len(timers) == len(set(timers)), "two words on one timer in one decision"

    def _event(self, before: Job | None, event: e.Event) -> Job:
        assert event.seq == len(self.events) + 1, "I1: a gap"
        self.events.append(event)
        job = evolve(before, event)
        assert job.seq == event.seq
        assert event.attempt == job.attempt
        old, new = before.status if before else "absent", job.status
        assert old == new or (old, new) in JOB_EDGES, f"I10: {old} -> {new}"
        if before is not None and event.type != "JobRetried":
            _stage_edges(before, job)
            _progress_rises(before, job)
        self._ends(event)
        _webhooks_in_order(job, event)
        return job

    def _ends(self, event: e.Event) -> None:
        if event.type == "CancelRequested":
            self.cancelled.add(event.attempt)
        if event.attempt in self.cancelled:
            assert event.type not in FORBIDDEN_AFTER_CANCEL, f"I11: {event.type} after a cancel"
        self.ends[event.attempt] += event.type in TERMINAL_TYPES
        assert self.ends[event.attempt] <= 1, "I12: two ends in one attempt"

    def nothing_is_stuck(self, play: Play) -> None:
        """Whatever the job waits for is on its way: a dispatch, a timer, a worker that is watched."""
        job = play.current
        if job is None:
            assert (play.timers, play.dispatches) == ({}, {})
            return
        coming = {(t.timer, t.token) for t in play.timers.values()} | {(f.timer, f.token) for f in play.late}
        for state in job.stages.values():
            _stage_goes_on(job, state, coming, play.dispatches)
        busy = [s for s in job.stages.values() if s.status in ("dispatched", "running") or s.retry_at]
        if job.status in LIVE:
            assert busy, "a live job with nothing under way"
            assert self.ends[job.attempt] == 0
        elif job.status == "cancelling":
            assert any(s.status == "running" for s in busy)
            assert ("grace", job.attempt) in coming
        elif job.status in ENDED:
            assert self.ends[job.attempt] == 1
            assert ("expire", job.attempt) in coming
            assert job.progress == 1.0 or job.status != "completed"
        else:
            assert play.to_remove
        _webhooks_go_on(job, coming, play)
        _nothing_is_left_over(job, play)

    def whole(self) -> Job | None:
        """The job folded from the first event on."""
        return reduce(evolve, (e.decode_event(e.encode_event(event)) for event in self.events), None)


def _may_write(before: Job | None, message: Any) -> bool:
    """Whether the message may have a consequence: a report only under the stage's current token (I13)."""
    if not isinstance(message, m.Report):
        return True
    state = before.stages.get(message.stage) if before else None
    return state is not None and state.token == message.token


def _same_when_stored(decision: Decision) -> None:
    job = decision.job
    assert job is None or msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
    for effect in decision.effects:
        if type(effect).__name__ in ("Dispatch", "Interrupt", "Tidy", "RemoveFiles", "Deliver", "KeepSecret"):
            assert decode_effect(encode_effect(effect)) == effect  # type: ignore[arg-type]  # narrowed by its name


def _webhooks_in_order(job: Job, event: e.Event) -> None:
    """I20: one after the other, each tried before it is given up while the job stays, and only so many remembered."""
    assert len(job.webhooks) <= MAX_WEBHOOKS
    assert [w.seq for w in job.webhooks] == sorted({w.seq for w in job.webhooks})
    if isinstance(event.data, e.WebhookBody):
        before = [w for w in job.webhooks if w.seq < event.data.webhook]
        assert all(w.status != "pending" for w in before), "I20: a webhook overtakes another"
    for webhook in job.webhooks:
        assert (webhook.status == "pending") == (webhook.settled_at is None)
    if isinstance(event.data, e.WebhookGivenUp) and event.data.reason in ("exhausted", "gone", "too_many_waiting"):
        assert next(w for w in job.webhooks if w.seq == event.data.webhook).tries > 0


def _webhooks_go_on(job: Job, coming: set[tuple[str, int]], play: Play) -> None:
    """I20: the oldest webhook that is pending is about to be tried, and no other is."""
    waiting = [w for w in job.webhooks if w.status == "pending"]
    assert len(waiting) <= MAX_PENDING
    if waiting:
        head, n = waiting[0], waiting[0].tries + 1
        trying = any((d.webhook, d.n) == (head.seq, n) for d in play.deliveries)
        assert trying or (f"webhook:{head.seq}", n) in coming, "I20: a webhook was forgotten"
        assert job.status != "expired"


def _stage_edges(before: Job, after: Job) -> None:
    for name, old in before.stages.items():
        new = after.stages.get(name)
        if new is None:  # a fan-out unfolded
            assert old.status == "waiting"
        else:
            assert old.status == new.status or (old.status, new.status) in STAGE_EDGES, f"I10: stage {name}"


def _progress_rises(before: Job, after: Job) -> None:
    assert before.progress <= after.progress <= 1.0, "I14: the job's progress falls"
    for name, state in after.stages.items():
        old = before.stages[name].progress if name in before.stages else 0.0
        assert 0.0 <= old <= state.progress <= 1.0, f"I14: the progress of {name} falls"


def _stage_goes_on(job: Job, state: StageState, coming: set[tuple[str, int]], dispatches: dict[int, Any]) -> None:
    name, token = state.name, state.token
    needs = [s for need in job.spec(state).needs for s in job.instances(need)]
    if state.status in ("dispatched", "running"):
        assert {s.status for s in needs} <= {"succeeded", "failed", "skipped"}, f"{name} runs before its turn"
    if state.status == "running":
        assert job.status not in ENDED
        assert (f"alive:{name}", token) in coming, f"nobody watches {name}"
        assert (f"deadline:{name}", token) in coming, f"{name} has no deadline"
    elif state.status == "dispatched":
        assert job.status in LIVE
        assert token in dispatches, f"{name} waits for a dispatch that is not there"
        assert dispatches[token].stage == name
    elif state.status == "waiting" and job.status in LIVE:
        if state.retry_at is not None:
            assert (f"retry:{name}", token) in coming, f"{name} waits for a timer that is not set"
        else:
            assert any(s.status in ("waiting", "dispatched", "running") for s in needs), f"{name} was forgotten"


def _nothing_is_left_over(job: Job, play: Play) -> None:
    """No timer and no dispatch outlives its purpose."""
    waiting = {s.token for s in job.stages.values() if s.status == "dispatched"}
    assert set(play.dispatches) == waiting
    for timer in play.timers:
        kind, _, name = timer.partition(":")
        # A retry fired by somebody else than the timer service leaves the timer itself behind until the claim.
        kinds = {"alive": ("running",), "deadline": ("running",), "retry": ("waiting", "dispatched")}
        if kind == "webhook":
            assert name == str(next(w.seq for w in job.webhooks if w.status == "pending")), f"{timer} is left over"
        elif name:
            assert job.stages[name].status in kinds[kind], f"{timer} is left over"
            assert job.status in LIVE or kind != "retry", f"{timer} is left over"
        else:
            assert job.status in {"grace": ("cancelling",), "expire": ENDED}[kind], f"{timer} is left over"
