"""A partition as plain Python: what the mailbox, the logs, the timers and the outbox must hold after each step.

The machine in test_ownership.py drives the real thing, looks at which entries have left the mailbox, and applies the
same messages here. Whatever Redis then holds must be what the model holds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from callsheet.actors.journal import tombstone
from callsheet.actors.keys import PartitionKeys, partition_of
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Decision, Policy
from callsheet.jobs.effects import (
    ClearTimer,
    Dispatch,
    Effect,
    Erase,
    Interrupt,
    RemoveFiles,
    SetTimer,
    Tidy,
    Withdraw,
    encode_effect,
)
from callsheet.jobs.events import encode_event
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide
from tests.actors.kit import as_hash, log_of

Fields = Mapping[bytes, bytes]
COMMANDS = (m.Cancel, m.Retry, m.Forget)


class Model:
    """What one partition must hold."""

    def __init__(self, policy: Policy, now: int) -> None:
        self.policy = policy
        self.now = now
        self.mailbox: dict[bytes, Fields] = {}
        self.jobs: dict[str, Job] = {}
        self.logs: dict[str, list[bytes]] = {}
        self.epochs: dict[str, list[int]] = {}
        self.timers: dict[str, tuple[int, float]] = {}
        self.outbox: dict[str, bytes] = {}
        self.dispatched: set[str] = set()
        self.receipts: set[str] = set()
        self.seen: set[tuple[str, bytes]] = set()
        self.dead = 0

    def arrives(self, entry: bytes, fields: Fields) -> None:
        """A message is in the mailbox; a submission leaves a receipt."""
        self.mailbox[entry] = fields

    def applied(self, entry: bytes, epoch: int) -> Decision | None:
        """The owner of this epoch applied an entry. The decision, unless the message had no effect of its own."""
        fields = self.mailbox.pop(entry)
        try:
            job, message = fields[b"job"].decode(), m.decode_message(fields[b"body"])
            partition_of(job, 1)
        except (m.Undecodable, KeyError, ValueError):
            self.dead += 1
            return None
        mid = fields[b"mid"]
        if isinstance(message, m.Fired) and f"{job}|{message.timer}" in self.timers:
            return None
        if isinstance(message, COMMANDS) and mid:
            if (job, mid) in self.seen:
                return None
            self.seen.add((job, mid))
        decision = decide(self.jobs.get(job), message, self.now, 0.0, self.policy)
        self._commit(job, decision, epoch)
        if isinstance(message, m.Submit):
            self.receipts.discard(job)
        return decision

    def _commit(self, job: str, decision: Decision, epoch: int) -> None:
        if decision.job is not None:
            self.jobs[job] = decision.job
        self.logs.setdefault(job, []).extend(encode_event(event) for event in decision.events)
        self.epochs.setdefault(job, []).extend(epoch for _ in decision.events)
        for n, effect in enumerate(decision.effects):
            self._effect(job, effect, f"{job}|{decision.outcome.seq}.{n}")
        for effect in decision.effects:
            if isinstance(effect, Withdraw):
                self.outbox.pop(f"{job}|{effect.token}", None)
                self.dispatched.discard(f"{job}|{effect.token}")

    def _effect(self, job: str, effect: Effect, effect_id: str) -> None:
        match effect:
            case SetTimer(timer=timer, token=token, due=due):
                self.timers[f"{job}|{timer}"] = (token, time.time() * 1000 + due - self.now)
            case ClearTimer(timer=timer):
                self.timers.pop(f"{job}|{timer}", None)
            case Dispatch(token=token):
                self.outbox[f"{job}|{token}"] = encode_effect(effect)
            case Interrupt() | Tidy() | RemoveFiles():
                self.outbox[effect_id] = encode_effect(effect)
            case Erase():
                self.jobs[job] = tombstone(self.jobs[job])
                self.logs[job], self.epochs[job] = [], []
            case Withdraw():
                pass

    def performed(self, effect_id: str, *, dispatch: bool) -> None:
        """An effect is marked as performed."""
        kept = self.outbox.pop(effect_id, None)
        if dispatch and kept is not None:
            self.dispatched.add(effect_id)

    def fired(self) -> None:
        """Every timer that is due has become a message."""
        self.timers = {member: timer for member, timer in self.timers.items() if timer[1] > 0}

    def check(self, client: Any, keys: PartitionKeys) -> None:
        """Redis holds this, and nothing else."""
        assert dict(client.xrange(keys.mailbox)) == self.mailbox
        for job, job_log in self.logs.items():
            entries = log_of(client, keys, job)
            assert [entry.raw for entry in entries] == job_log, "the log is not what was decided, in one order"
            assert [entry.epoch for entry in entries] == self.epochs[job], "I3"
            expected = as_hash(self.jobs[job]) if job in self.jobs else {}
            assert client.hgetall(keys.snapshot(job)) == expected, "I2"
        listed = self.receipts | {job for job, job_log in self.logs.items() if job_log}
        assert {job.decode() for job in client.zrange(keys.index("t1"), 0, -1)} == listed
        assert {member.decode(): int(token) for member, token in client.hgetall(keys.tokens).items()} == {
            member: token for member, (token, _) in self.timers.items()
        }
        due = {member.decode(): at for member, at in client.zrange(keys.timers, 0, -1, withscores=True)}
        assert due.keys() == self.timers.keys()
        for member, at in due.items():
            assert abs(at - self.timers[member][1]) < 60_000, f"{member} is due at another time"
        assert {k.decode(): v for k, v in client.hgetall(keys.outbox).items()} == self.outbox
        assert {k.decode() for k in client.hkeys(keys.dispatched)} == self.dispatched
        assert client.xlen(keys.dead) == self.dead
        assert {key.decode().rpartition(":")[2] for key in client.keys(keys.receipt("*"))} == self.receipts
        seen = {tuple(key.split(b":")[-2:]) for key in client.keys(keys.seen("*", "*"))}
        assert seen == {(job.encode(), mid) for job, mid in self.seen}
