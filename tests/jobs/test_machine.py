"""The rules under any sequence of messages: honest and forged, repeated, late and out of order. See invariants.py."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.job import StageState
from callsheet.jobs.rules import decide
from tests.jobs.kit import GRAPHS, HOOK, LINEAR, Play, output, submission
from tests.jobs.strategies import json_values, of
from tests.jobs.workers import ENDED, ENOUGH, WORKERS, Worker, settle, succeeds

POLICY = Policy(max_losses=1, webhook_delays=(5_000, 60_000))
FRACTIONS = st.floats(0, 1) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["a", "b", "c", "d", "plan", "clip", "clip:0", "clip:1", "join", "side", "nobody", ""])
TIMERS = st.one_of(
    st.sampled_from(["grace", "expire", "", "bogus:a"]),
    st.builds("{}:{}".format, st.sampled_from(["retry", "alive", "deadline"]), NAMES),
)
TOKENS = st.integers(0, 40)
FORGED = st.one_of(
    *[of(kind, stage=NAMES, token=TOKENS) for kind in m.MESSAGES if issubclass(kind, m.Report)],
    st.builds(m.Fired, TIMERS, TOKENS),
    st.just(m.FilesRemoved()),
)


class Rules(RuleBasedStateMachine):
    """Plays the worker, the timer service and the client, well and badly."""

    @initialize(graph=st.sampled_from(sorted(GRAPHS)), callback_url=st.sampled_from([None, HOOK]))
    def submit(self, graph: str, callback_url: str | None) -> None:
        self.play = Play(GRAPHS[graph], POLICY, callback_url=callback_url)

    def tell(self, message: m.Message) -> None:
        self.play.tell(message)
        if not isinstance(message, m.Command):  # a command is applied once a delivery by the journal
            self._again(message)

    def _again(self, message: m.Message) -> None:
        """I5: a report or a timer that is delivered again has no second effect."""
        play = self.play
        before = (play.current, dict(play.timers), dict(play.dispatches))
        assert play.tell(message).events == ()
        assert (play.current, play.timers, play.dispatches) == before

    def pick(self, data: st.DataObject, *statuses: str) -> StageState:
        return data.draw(st.sampled_from([s for s in self.play.job.stages.values() if s.status in statuses]))

    def has(self, *statuses: str) -> bool:
        job = self.play.current
        return job is not None and any(s.status in statuses for s in job.stages.values())

    # An honest worker.

    @precondition(lambda self: self.has("dispatched"))
    @rule(data=st.data(), worker=st.sampled_from(["w1", "w2"]))
    def claims(self, data: st.DataObject, worker: str) -> None:
        state = self.pick(data, "dispatched")
        self.tell(m.Claim(state.name, state.token, worker))

    @precondition(lambda self: self.has("running"))
    @rule(data=st.data(), step=st.integers(0, 2), fraction=FRACTIONS, words=st.sampled_from(["", "x"]))
    def chats(self, data: st.DataObject, step: int, fraction: float, words: str) -> None:
        state = self.pick(data, "running")
        name, token, n = state.name, state.token, state.heard + step
        reports: tuple[m.Message, ...] = (
            m.Progress(name, token, n, fraction, words),
            m.LogLines(name, token, n, (words,) * step),
            m.Partial(name, token, n, {"x": step}),
            m.Heartbeat(name, token),
        )
        self.tell(data.draw(st.sampled_from(reports)))

    @precondition(lambda self: self.has("running"))
    @rule(
        data=st.data(),
        items=st.none() | st.lists(json_values, max_size=3),
        facts=st.none() | json_values,
        onward=st.sampled_from(["", "w3"]),
    )
    def succeeds(self, data: st.DataObject, items: list[Any] | None, facts: Any, onward: str) -> None:
        state = self.pick(data, "running")
        report = m.Succeeded(
            state.name,
            state.token,
            outputs=(output(self.play, state.name, "out.txt"),),
            result={"x": facts},
            items=None if items is None else tuple(items),
            input={"duration": facts, "media_type": facts},
            onward=onward,
            said=self.left_to_say(data, state),
        )
        self.tell(report)

    @precondition(lambda self: self.has("running"))
    @rule(data=st.data(), retryable=st.booleans())
    def fails(self, data: st.DataObject, retryable: bool) -> None:
        state = self.pick(data, "running")
        said = self.left_to_say(data, state)
        self.tell(m.Failed(state.name, state.token, "broken", "it broke", retryable, said=said))

    @precondition(lambda self: self.has("running"))
    @rule(data=st.data(), reason=st.sampled_from(["interrupted", "shutdown"]))
    def stops(self, data: st.DataObject, reason: Any) -> None:
        state = self.pick(data, "running")
        self.tell(m.Stopped(state.name, state.token, reason, said=self.left_to_say(data, state)))

    def left_to_say(self, data: st.DataObject, state: StageState) -> tuple[m.Chatter, ...]:
        """What an ending carries: of its own stage or, if the worker is wrong, of another or an older dispatch."""
        name, token = data.draw(st.sampled_from([(state.name, state.token), (state.name, 1), ("b", state.token)]))
        fraction = data.draw(FRACTIONS)
        said = (
            m.LogLines(name, token, state.heard + 1, ("line",)),
            m.Partial(name, token, state.heard + 2, {"x": 1}),
            m.Progress(name, token, state.heard + 3, fraction),
        )
        return said[: data.draw(st.integers(0, 3))]

    # A receiver of webhooks. What is performed twice is told of twice.

    @precondition(lambda self: self.play.deliveries)
    @rule(data=st.data(), marked=st.booleans(), outcome=st.sampled_from(["delivered", "timeout", "gone", "postponed"]))
    def a_webhook_is_tried(self, data: st.DataObject, marked: bool, outcome: str) -> None:
        effect = data.draw(st.sampled_from(self.play.deliveries))
        if outcome == "delivered":
            self.tell(m.Delivered(effect.webhook, effect.n, 200, 0.1))
        elif outcome == "postponed":
            self.tell(m.DeliveryPostponed(effect.webhook, effect.n))
        else:
            self.tell(m.DeliveryFailed(effect.webhook, effect.n, outcome))
        if marked and effect in self.play.deliveries:
            self.play.deliveries.remove(effect)

    @precondition(lambda self: self.play.current and self.play.job.webhooks)
    @rule(data=st.data())
    def asks_for_a_webhook_again(self, data: st.DataObject) -> None:
        self.tell(m.Redeliver(data.draw(st.sampled_from([None, 3, *[w.seq for w in self.play.job.webhooks]]))))

    # An honest timer service, whose messages may be late.

    @precondition(lambda self: self.play.timers)
    @rule(data=st.data())
    def a_timer_rings(self, data: st.DataObject) -> None:
        self.play.ring(data.draw(st.sampled_from(sorted(self.play.timers))))

    @precondition(lambda self: self.play.late)
    @rule(data=st.data())
    def a_timer_is_delivered(self, data: st.DataObject) -> None:
        fired = data.draw(st.sampled_from(self.play.late))
        self.play.late.remove(fired)
        self.tell(fired)

    @precondition(lambda self: self.play.timers)
    @rule(data=st.data(), command=st.sampled_from([m.Cancel(), m.Retry(), m.Forget()]))
    def a_timer_rings_and_a_command_overtakes_it(
        self, data: st.DataObject, command: m.Cancel | m.Retry | m.Forget
    ) -> None:
        fired = self.play.ring(data.draw(st.sampled_from(sorted(self.play.timers))))
        self.play.tell(command)
        self.play.late.remove(fired)
        self.tell(fired)

    @rule(seconds=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
    def time_passes(self, seconds: int, jitter: float) -> None:
        self.play.now += seconds * 1000
        self.play.jitter = jitter

    # A client.

    @rule(data=st.data())
    def cancels(self, data: st.DataObject) -> None:
        seq = self.play.current.seq if self.play.current else 0
        self.tell(m.Cancel(data.draw(st.sampled_from([None, seq, seq + 1]))))

    @rule(stage=st.none() | NAMES)
    def retries(self, stage: str | None) -> None:
        self.tell(m.Retry(stage, {"again": True}))

    @precondition(lambda self: self.play.current and self.play.job.status in ENDED)
    @rule()
    def forgets(self) -> None:
        self.tell(m.Forget())

    @precondition(lambda self: self.play.to_remove)
    @rule()
    def files_are_removed(self) -> None:
        self.tell(m.FilesRemoved())

    @rule(graph=st.sampled_from(sorted(GRAPHS)), fingerprint=st.sampled_from(["f", "g"]))
    def submits_again(self, graph: str, fingerprint: str) -> None:
        self.tell(submission(GRAPHS[graph], fingerprint))

    # Repeated, stale and forged.

    @rule(data=st.data())
    def an_old_message_comes_again(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.play.told))
        if not isinstance(message, m.Submit | m.Retry):
            self.tell(message)

    @rule(message=FORGED)
    def a_message_is_forged(self, message: m.Message) -> None:
        self.tell(message)

    @precondition(lambda self: self.play.current)
    @rule(data=st.data(), kind=st.sampled_from(["retry", "alive", "deadline"]))
    def a_timer_rings_that_was_never_set(self, data: st.DataObject, kind: str) -> None:
        state = data.draw(st.sampled_from(list(self.play.job.stages.values())))
        self.tell(m.Fired(f"{kind}:{state.name}", state.token))

    @precondition(lambda self: self.play.current)
    @rule(timer=st.sampled_from(["grace", "expire"]), before=st.integers(0, 1))
    def the_jobs_own_timer_rings_that_was_never_set(self, timer: str, before: int) -> None:
        self.tell(m.Fired(timer, self.play.job.attempt - before))

    # I15.

    @rule(worker=st.sampled_from(WORKERS), steps=st.sampled_from([1, 3, 5, ENOUGH]))
    def all_behave_for_a_while(self, worker: Worker, steps: int) -> None:
        ended = settle(self.play, worker, steps)
        assert ended or steps < ENOUGH, "I15: the job does not end"

    @invariant()
    def the_journal_is_the_job(self) -> None:
        """I2, from the first event on."""
        play = getattr(self, "play", None)
        if play is not None and play.current is not None and len(play.watch.events) % 7 == 0:
            assert play.watch.whole() == play.current

    def teardown(self) -> None:
        play = getattr(self, "play", None)
        if play is None or not play.sound:
            return
        assert settle(play, succeeds), "I15: the job does not end"
        if play.current is not None:
            assert play.watch.whole() == play.current


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=settings().max_examples * 2)


def test_a_job_ends_whatever_its_workers_do() -> None:
    for graph in GRAPHS.values():
        for worker in WORKERS:
            play = Play(graph, POLICY)
            assert settle(play, worker, 100)
            assert play.job.status == ("completed" if worker is succeeds else "failed")


def test_decide_twice_is_the_same_as_once_for_a_job_in_full_swing() -> None:
    play = Play(LINEAR, POLICY)
    play.claim("a")
    message = m.Succeeded("a", 2)
    assert decide(play.job, message, play.now) == decide(play.job, message, play.now)
