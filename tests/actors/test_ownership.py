"""Actor and journal on a real Redis under any sequence of messages, crashes, takeovers and zombies: I1 to I6, I15."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dramatiq import Message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from callsheet.actors.committer import Committer
from callsheet.actors.journal import OutboxItem
from callsheet.actors.stores.folder import FolderStore
from callsheet.jobs import messages as m
from callsheet.jobs.effects import Dispatch
from callsheet.jobs.graph import StageSpec
from callsheet.jobs.reports import LATE
from tests.actors.kit import AGAIN, ENDED, ONE, PAIR, POLICY, START, as_hash, submission
from tests.actors.model import Model
from tests.actors.rehearsal import KEYS, STEPS, CrashError, RehearsalHost, rehearse
from tests.servers import RedisServer

FAN = (StageSpec("a"), StageSpec("clip", ("a",), each="a", may_fail=True, retry=AGAIN))
GRAPHS = (ONE, PAIR, FAN)
CAMPAIGN = settings(
    deadline=None,
    max_examples=40,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
COMMANDS = (m.Cancel(), m.Retry(), m.Retry("a", {"n": 1}), m.Retry(None, {"n": True}), m.Forget())
MIDS = ("m1", "m2", "m3")
GARBAGE: tuple[dict[str, Any], ...] = (
    {"job": "{job}", "mid": "x", "body": "{", "reply": ""},
    {"job": "{job}", "mid": "x"},
    {"job": "nobody", "mid": "x", "body": '{"type":"Cancel"}', "reply": ""},
    {"job": b"\xff\xfe", "mid": "x", "body": '{"type":"Cancel"}', "reply": ""},
    {"job": "{job}", "mid": "x", "body": '{"type":"Explode"}', "reply": ""},
    {"job": "{job}", "mid": "x", "body": '{"type":"Claim","stage":1}', "reply": ""},
)


class Partition(RuleBasedStateMachine):
    """One partition: clients, workers, timers, an owner, its predecessors, and the performer of effects."""

    servers: ClassVar[tuple[RedisServer, RedisServer]]
    committer: ClassVar[Committer]
    store: ClassVar[FolderStore]

    @initialize()
    def begin(self) -> None:
        journal, broker = self.servers
        self.client, self.broker = journal.client(), broker.client()
        self.client.flushall()
        self.broker.flushall()
        RehearsalHost.crash_at = set()
        self.model = Model(POLICY, START)
        self.epoch = 0
        self.hosts: list[RehearsalHost] = []
        self.names: list[str] = []
        self.in_hand: list[tuple[RehearsalHost, OutboxItem]] = []
        self.takes_over()

    @property
    def host(self) -> RehearsalHost:
        return self.hosts[-1]

    def idle(self) -> bool:
        return not self.host.frozen and not self.host.owner.lost

    # -- what happened to the mailbox, applied to the model

    def settle(self) -> None:
        """Take note of what has come into the mailbox, and apply what has left it; then compare."""
        entries = dict(self.client.xrange(KEYS.mailbox))
        for entry in [e for e in self.model.mailbox if e not in entries]:
            self.model.applied(entry, self.epoch)
        for entry, fields in entries.items():
            if entry not in self.model.mailbox:
                self.model.arrives(entry, fields)
        for host in self.hosts:
            for item in host.effects():
                if isinstance(item.effect, Dispatch):
                    assert item.effect.token <= self.model.jobs[item.job].seq, "an effect before its commit"
                self.in_hand.append((host, item))

    def send(self, job: str, message: m.Message, mid: str = "") -> None:
        receipt = m.encode_message(message) if isinstance(message, m.Submit) else b""
        args = [1_000, job, mid, m.encode_message(message), "", receipt, ""]
        keys = [KEYS.mailbox, KEYS.receipt(job), KEYS.callback_secret(job), KEYS.index("t1"), KEYS.snapshot(job)]
        assert self.committer.run("send", keys, args) != b"FULL"
        if receipt:
            self.model.receipts.add(job)
        self.settle()

    # -- clients

    @rule(graph=st.sampled_from(GRAPHS))
    def submits(self, graph: tuple[StageSpec, ...]) -> None:
        if len(self.names) < 4:
            self.names.append(f"{len(self.names):032x}")  # ids by chance would make each run another one
            self.send(self.names[-1], submission(self.names[-1], graph))

    @precondition(lambda self: self.names)
    @rule(data=st.data(), fingerprint=st.sampled_from(["f", "g"]))
    def submits_again(self, data: st.DataObject, fingerprint: str) -> None:
        job = data.draw(st.sampled_from(self.names))
        self.send(job, submission(job, ONE, fingerprint))

    @precondition(lambda self: self.names)
    @rule(
        data=st.data(),
        command=st.sampled_from(
            [m.Cancel(), m.Retry(), m.Retry("a", {"n": 1}), m.Retry(None, {"n": True}), m.Forget()]
        ),
        mid=st.sampled_from(MIDS),
    )
    def commands(self, data: st.DataObject, command: m.Message, mid: str) -> None:
        """Often under a mid that was used before: it must take effect once."""
        self.send(data.draw(st.sampled_from(self.names)), command, mid)

    @precondition(lambda self: self.model.seen)
    @rule(data=st.data(), command=st.sampled_from(COMMANDS))
    def a_mid_comes_again_after_it_was_applied(self, data: st.DataObject, command: m.Message) -> None:
        job, mid = data.draw(st.sampled_from(sorted(self.model.seen)))
        self.send(job, command, mid.decode())

    @precondition(lambda self: self.model.mailbox)
    @rule(data=st.data())
    def an_entry_is_delivered_again(self, data: st.DataObject) -> None:
        fields = self.model.mailbox[data.draw(st.sampled_from(sorted(self.model.mailbox)))]
        self.client.xadd(KEYS.mailbox, dict(fields))
        self.settle()

    @precondition(lambda self: self.names)
    @rule(data=st.data(), fields=st.sampled_from(GARBAGE))
    def garbage_arrives(self, data: st.DataObject, fields: dict[str, Any]) -> None:
        job = data.draw(st.sampled_from(self.names))
        self.client.xadd(KEYS.mailbox, {k: job if v == "{job}" else v for k, v in fields.items()})
        self.settle()

    # -- workers

    def offered(self) -> list[tuple[str, str, int]]:
        """What the broker holds; nothing ever leaves it here, so each delivery may come any number of times."""
        found = [Message.decode(raw) for raw in self.broker.hvals("dramatiq:cpu.msgs")]
        return sorted({(str(a[0]), str(a[1]), int(a[2])) for a in (message.args for message in found)})

    @rule(data=st.data(), worker=st.sampled_from(["w1", "w2"]))
    def claims(self, data: st.DataObject, worker: str) -> None:
        if offered := self.offered():
            job, stage, token = data.draw(st.sampled_from(offered))
            self.send(job, m.Claim(stage, token, worker))

    @precondition(lambda self: any(job.stages for job in self.model.jobs.values()))
    @rule(data=st.data(), old=st.booleans())
    def reports(self, data: st.DataObject, old: bool) -> None:
        jobs = {name: job for name, job in self.model.jobs.items() if job.stages}
        name = data.draw(st.sampled_from(sorted(jobs)))
        state = data.draw(st.sampled_from(list(jobs[name].stages.values())))
        stage, token, n = state.name, max(1, state.token - old), state.heard + 1
        kinds: tuple[m.Message, ...] = (
            m.Succeeded(stage, token, items=(1, 2)),
            m.Progress(stage, token, n, 0.5),
            m.LogLines(stage, token, n, ("line",)),
            m.Heartbeat(stage, token),
            m.Failed(stage, token, "broken", "it broke", retryable=True),
            m.Failed(stage, token, "broken", "it broke", retryable=False),
            m.Stopped(stage, token),
        )
        self.send(name, data.draw(st.sampled_from(kinds)))

    # -- timers

    @precondition(lambda self: self.model.timers)
    @rule(data=st.data(), zombie=st.booleans(), late=st.sampled_from([1, 10 * LATE]))
    def timers_come_due(self, data: st.DataObject, zombie: bool, late: int) -> None:
        """In time, as far as anybody can tell, or after the journal was away."""
        due = data.draw(st.lists(st.sampled_from(sorted(self.model.timers)), min_size=1, unique=True))
        epoch = self.epoch - zombie
        self._heartbeats_ahead_of(due)
        before = set(self.model.mailbox)
        now = int(self.client.time()[0]) * 1000
        for member, at in self.client.zrange(KEYS.timers, 0, -1, withscores=True):
            # These are the earliest, and no more are taken: others may have come due by the server's clock.
            self.client.zadd(KEYS.timers, {member: now - late if member.decode() in due else max(at, now)})
        args = ["fire", [KEYS.epoch, KEYS.timers, KEYS.tokens, KEYS.mailbox], [epoch, len(due)]]
        answer = self.committer.run(*args)  # type: ignore[arg-type]
        assert answer == (b"FENCED" if zombie else len(due))
        if zombie:
            for member in due:
                self.client.zadd(KEYS.timers, {member: self.model.timers[member][1]})
            return
        tokens = {member: self.model.timers.pop(member)[0] for member in due}
        self.settle()
        new = [fields for entry, fields in self.model.mailbox.items() if entry not in before]
        fired = [(f[b"job"].decode(), replace(m.decode_message(f[b"body"]), late=0)) for f in new]
        expected = [(member.partition("|")[0], m.Fired(member.partition("|")[2], tokens[member])) for member in due]
        assert sorted(fired, key=repr) == sorted(expected, key=repr)

    def _heartbeats_ahead_of(self, due: list[str]) -> None:
        """The worker lives, and its sign of life is in the mailbox already: these timers will be set again."""
        for member in due:
            job, _, timer = member.partition("|")
            if timer.startswith("alive:"):
                self.send(job, m.Heartbeat(timer.removeprefix("alive:"), self.model.timers[member][0]))

    # -- owners

    @precondition(lambda self: self.idle() and self.model.mailbox)
    @rule(count=st.integers(1, 6), freeze_at=st.sampled_from(["", "", *STEPS]))
    def the_owner_handles_messages(self, count: int, freeze_at: str) -> None:
        for left in reversed(range(count)):
            self.host.handle_next("" if left else freeze_at)
            self.settle()

    @precondition(lambda self: self.host.frozen)
    @rule()
    def the_owner_handles_another_message_meanwhile(self) -> None:
        self.host.handle_next()
        self.settle()

    @precondition(lambda self: self.host.frozen)
    @rule()
    def the_owner_goes_on(self) -> None:
        self.host.thaw()
        self.settle()

    @precondition(lambda self: len(self.hosts) < 6)
    @rule(dead=st.booleans())
    def takes_over(self, dead: bool = False) -> None:
        """The owner is dead, with what it had in hand; or frozen where it stands, or will find out."""
        if dead:
            self.in_hand.clear()
        host = RehearsalHost(len(self.hosts), self.committer, self.client, self.servers[1].url, self.store)
        self.hosts.append(host)
        assert host.epoch > self.epoch, "epochs rise with each owner"
        self.epoch = host.epoch
        host.performer.look_after([host.owner])
        self.settle()

    @precondition(lambda self: len(self.hosts) > 1)
    @rule(data=st.data())
    def a_zombie_comes_back(self, data: st.DataObject) -> None:
        """It commits what it had decided, or handles what it would read next, and is told FENCED."""
        zombie = data.draw(st.sampled_from(self.hosts[:-1]))
        if zombie.frozen:
            committed = zombie.owner.lost
            zombie.thaw()
            assert zombie.owner.lost or not committed
        elif zombie.handle_next():
            assert zombie.owner.lost
        before = set(self.model.mailbox)
        self.settle()
        assert set(self.model.mailbox) == before, "a zombie's message counted"

    @rule()
    def idle_actors_are_retired(self) -> None:
        if not self.host.frozen:
            self.host.owner.retire_idle(0)
            assert len(self.host.owner._seats) == 0

    # -- effects

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data(), crash=st.booleans())
    def an_effect_is_performed(self, data: st.DataObject, crash: bool) -> None:
        """By whoever has it in hand, zombies too; a crash comes after it was performed, before it is marked."""
        host, item = self.in_hand.pop(data.draw(st.integers(0, len(self.in_hand) - 1)))
        RehearsalHost.crash_at = {"host.performed"} if crash else set()
        try:
            host.performer._perform(host.owner, item)
        except CrashError:
            assert crash
        else:
            self.model.performed(item.id, dispatch=isinstance(item.effect, Dispatch))
        RehearsalHost.crash_at = set()
        self.settle()

    @rule()
    def the_broker_is_emptied(self) -> None:
        self.broker.flushall()

    @rule()
    def the_owner_looks_after_its_effects(self) -> None:
        if not self.host.owner.lost:
            self.host.performer.look_after([self.host.owner])
            self.settle()

    # -- what must hold

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        if hasattr(self, "model"):
            self.model.check(self.client, KEYS)

    @invariant()
    def the_owner_in_office_has_no_reason_to_step_down(self) -> None:
        assert not any(host.owner.lost for host in getattr(self, "hosts", [])[-1:])

    @invariant()
    def every_accepted_submission_exists(self) -> None:
        """I6, I9: in the mailbox, or as a job, and its receipt says so until then."""
        for name in getattr(self, "names", []):
            waiting = [f for f in self.model.mailbox.values() if f.get(b"job") == name.encode()]
            assert name in self.model.jobs or (waiting and name in self.model.receipts)

    @invariant()
    def no_dispatch_is_lost(self) -> None:
        """A stage that waits for a worker is in the outbox, or noted as offered until somebody claims it."""
        for name, job in getattr(self, "model", Model(POLICY, START)).jobs.items():
            for state in job.stages.values():
                if state.status == "dispatched":
                    effect = f"{name}|{state.token}"
                    assert (effect in self.model.outbox) != (effect in self.model.dispatched)

    # -- I15

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        try:
            self._ends_well()
        finally:
            for host in self.hosts:
                host.end()
            self.client.close()
            self.broker.close()

    def _ends_well(self) -> None:
        for host in self.hosts:
            if host.frozen:
                host.thaw()
                self.settle()
        for name in self.names:  # whoever is in memory decides once more on what it remembers
            self.send(name, m.Retry())
        while self.host.handle_next():
            self.settle()
        self.the_owner_in_office_has_no_reason_to_step_down()
        self.takes_over(dead=True)
        for _ in range(200):
            if not (self._drains() or self._works()):
                break
            self.model.check(self.client, KEYS)
        statuses = {job.status for job in self.model.jobs.values()}
        assert statuses <= {*ENDED, "expired"}, f"I15: {statuses}"
        assert set(self.names) <= set(self.model.jobs), "I6"
        assert all(self.client.hgetall(KEYS.snapshot(n)) == as_hash(job) for n, job in self.model.jobs.items())
        assert (self.model.mailbox, self.model.outbox, self.model.dispatched) == ({}, {}, set())

    def _drains(self) -> bool:
        """The owner handles all there is and performs all there is, once the broker is what it was."""
        busy = False
        self.host.performer.look_after([self.host.owner])
        self.settle()
        while self.host.handle_next():
            self.settle()
            busy = True
        for _, item in self.in_hand:
            self.host.performer._perform(self.host.owner, item)
            self.model.performed(item.id, dispatch=isinstance(item.effect, Dispatch))
            busy = True
        self.in_hand.clear()
        self.settle()
        return busy

    def _works(self) -> bool:
        """Workers take what they are offered and succeed; a stage whose worker is gone is given up by its timer."""
        busy = False
        current = {(n, s.name, s.token): s for n, job in self.model.jobs.items() for s in job.stages.values()}
        for offer in self.offered():
            state = current.get(offer)
            if state is not None and state.status == "dispatched":
                self.send(offer[0], m.Claim(offer[1], offer[2], "w"))
                busy = True
        for name, job in self.model.jobs.items():
            for state in job.stages.values():
                if state.status == "running":
                    self.send(name, m.Succeeded(state.name, state.token))
                    busy = True
                elif state.retry_at is not None and f"{name}|retry:{state.name}" in self.model.timers:
                    self.client.zadd(KEYS.timers, {f"{name}|retry:{state.name}": 1})
                    self.model.timers.pop(f"{name}|retry:{state.name}")
                    keys = [KEYS.epoch, KEYS.timers, KEYS.tokens, KEYS.mailbox]
                    assert self.committer.run("fire", keys, [self.epoch, 1]) == 1
                    busy = True
        self.settle()
        return busy


@pytest.fixture
def partition(
    journal_server: RedisServer, broker_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[Partition]]:
    rehearse(monkeypatch)
    Partition.servers = (journal_server, broker_server)
    Partition.committer = Committer(journal_server.url)
    Partition.store = FolderStore(tmp_path)
    yield Partition
    Partition.committer.stop()


@pytest.mark.soak  # in every run too, where it is a short one
@pytest.mark.timeout(3_600)
def test_ownership_holds_under_any_sequence_of_messages_crashes_and_takeovers(
    partition: type[Partition], request: pytest.FixtureRequest
) -> None:
    long = request.config.getoption("markexpr") == "soak"
    campaign = settings(CAMPAIGN, max_examples=1_500, stateful_step_count=100) if long else CAMPAIGN
    run_state_machine_as_test(partition, settings=campaign)
