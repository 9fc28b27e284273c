"""The journal of the jobs of one partition, written by its owner only: one atomic, fenced commit a message."""

from __future__ import annotations

import secrets
import time
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from callsheet.actors.committer import Committer, JournalDownError
from callsheet.actors.errors import CorruptRecord
from callsheet.actors.keys import PartitionKeys, feed_channel
from callsheet.actors.snapshot import changed_fields, decode_job
from callsheet.actors.telemetry.metrics import SET_ASIDE, committed
from callsheet.actors.wire import REDIS_AWAY, check_sent, sending
from callsheet.config.checks import KEY_SECONDS
from callsheet.jobs.draft import Decision, Outcome
from callsheet.jobs.effects import (
    ClearTimer,
    Deliver,
    Dispatch,
    Effect,
    Erase,
    Interrupt,
    KeepSecret,
    OutboxEffect,
    RemoveFiles,
    SetTimer,
    Tidy,
    Withdraw,
    encode_effect,
)
from callsheet.jobs.events import JobSubmitted, encode_event
from callsheet.jobs.job import ACTIVE, Job
from callsheet.jobs.messages import Cancel, Fired, Forget, Message, Redeliver, Retry, Submit

KNOWN_SECONDS = KEY_SECONDS  # what a client gave a name to
KNOWN_UNNAMED_SECONDS = 3600  # only who sent it may send it twice, over a connection that breaks off: seconds apart
MAX_DEAD_BYTES = 16_384  # of a message that is set aside: its beginning tells what it was
_encode = msgspec.json.Encoder().encode


class LostOwnershipError(Exception):
    """This owner may not write (any more): it was fenced off, or its view of the job is not the journal's."""


class Delivery(msgspec.Struct, frozen=True):
    """A message as it lies in the mailbox: entry id, job, the message's own id, where to answer, and what it says."""

    entry: bytes
    job: str
    mid: bytes
    reply: bytes
    message: Message


class OutboxItem(msgspec.Struct, frozen=True):
    """An effect to perform, under the id by which the outbox knows it; whose job it is, if that is at
    hand; and whether it has waited for its job's turn."""

    id: str
    job: str
    effect: OutboxEffect
    tenant: str = ""
    admitted: bool = False


class Journal:
    """Commits, loads and dead letters for one partition, under one epoch."""

    def __init__(self, committer: Committer, reader: Any, keys: PartitionKeys, epoch: int) -> None:
        self.keys = keys
        self.epoch = epoch
        self._committer = committer
        self._reader = reader

    def load(self, job: str) -> Job | None:
        """The job's snapshot. Raises CorruptRecord; JournalDownError when Redis is away."""
        try:
            fields = self._reader.hgetall(self.keys.snapshot(job))
        except REDIS_AWAY as error:
            raise JournalDownError(str(error)) from error
        return decode_job(fields)

    def commit(self, old: Job | None, delivery: Delivery, decision: Decision, now: int) -> list[OutboxItem] | None:
        """Make a decision true. Returns the effects to perform; None if the message was applied or overtaken before.

        Raises LostOwnershipError or CorruptRecord (nothing was written), or JournalDownError (whether it was is not
        known: whoever owns the partition next finds out by reading).
        """
        outbox = _outbox(delivery.job, decision)
        keys, args = self._keys(delivery, old), self._args(old, delivery, decision, now, outbox)
        begun = time.monotonic()
        answer = self._committer.run("commit", keys, args)
        committed(answer, time.monotonic() - begun)
        if answer in (b"FENCED", b"CONFLICT"):
            raise LostOwnershipError(answer.decode())
        if answer == b"CORRUPT":
            raise CorruptRecord("the log does not end where the snapshot stands")
        return outbox if answer == b"OK" else None

    def set_aside(self, delivery_entry: bytes, fields: dict[bytes, bytes], why: str) -> None:
        """Move a message that cannot be applied to the dead letters. Raises like commit."""
        outcome = Outcome(ok=False, code="message_rejected", status="unknown", seq=0, detail=why)
        job, mid, body = (fields.get(name, b"")[:MAX_DEAD_BYTES] for name in (b"job", b"mid", b"body"))
        args = [self.epoch, delivery_entry, job, mid, body, why, fields.get(b"reply", b""), _encode(outcome)]
        k, name = self.keys, job.decode(errors="replace")
        keys = [k.epoch, k.mailbox, k.dead, k.receipt(name), k.snapshot(name), k.callback_secret(name)]
        keys.append(k.index(_tenant_in(fields.get(b"body", b""))))
        answer = self._committer.run("dead", keys, args)
        if answer == b"FENCED":
            raise LostOwnershipError("FENCED")
        SET_ASIDE.inc()

    def performed(self, item: OutboxItem, generation: str = "") -> None:
        """Note that an effect is performed; a dispatch with the generation of the broker that has it."""
        kept = f"{generation} ".encode() + encode_effect(item.effect) if generation else b""
        self._committer.run("performed", [self.keys.outbox, self.keys.dispatched], [item.id, kept])

    def post(self, job: str, message: Message) -> None:
        """Send a message to a job of this partition. Raises MailboxFull."""
        check_sent(self._committer.run("send", *sending(self.keys, job, message, secrets.token_hex(12), "")))

    def _keys(self, delivery: Delivery, old: Job | None) -> list[str]:
        k, job = self.keys, delivery.job
        message = delivery.message
        tenant = old.tenant if old else message.tenant if isinstance(message, Submit) else ""
        return [
            k.epoch,
            k.mailbox,
            k.log(job),
            k.snapshot(job),
            k.timers,
            k.tokens,
            k.outbox,
            k.dispatched,
            k.seen(job, delivery.mid.decode()),
            k.receipt(job),
            k.index(tenant),
            k.changes(tenant),
            k.open(tenant),
            *([k.callback_secret(job)] if isinstance(message, Submit) else []),
        ]

    def _args(
        self, old: Job | None, delivery: Delivery, decision: Decision, now: int, outbox: list[OutboxItem]
    ) -> list[Any]:
        job, message = delivery.job, delivery.message
        created = bool(decision.events) and isinstance(decision.events[0].data, JobSubmitted)
        erase = next((e for e in decision.effects if isinstance(e, Erase)), None)
        args: list[Any] = [
            self.epoch,
            delivery.entry,
            old.seq if old else 0,
            job,
            delivery.mid,
            _encode(decision.outcome),
            delivery.reply,
            feed_channel(job),
            _seconds_known(delivery),
            f"{job}|{message.timer}" if isinstance(message, Fired) else "",
            now if created else "",
            "1" if isinstance(message, Submit) else "",
            erase.tombstone if erase else "",
            _opening(old, decision),
        ]
        write, delete = _fields(old, decision, erase)
        set_timers, clear_timers = _timers(job, decision.effects, now)
        withdrawn = [_dispatch_id(job, e.token) for e in decision.effects if isinstance(e, Withdraw)]
        _extend(args, [(e.type, encode_event(e)) for e in decision.events])
        _extend(args, write)
        _extend(args, [(name,) for name in delete])
        _extend(args, set_timers)
        _extend(args, [(member,) for member in clear_timers])
        _extend(args, [(item.id, encode_effect(item.effect)) for item in outbox])
        _extend(args, [(effect_id,) for effect_id in withdrawn])
        return args


class _Sent(msgspec.Struct):
    tenant: str = ""


_sent = msgspec.json.Decoder(_Sent)


def _tenant_in(body: bytes) -> str:
    """Whose submission it is, whatever version wrote it; '' if it is none."""
    try:
        return _sent.decode(body).tenant
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _extend(args: list[Any], rows: list[Any]) -> None:
    args.append(len(rows))
    for row in rows:
        args.extend(row)


def _seconds_known(delivery: Delivery) -> int | str:
    """How long a command is known again by its mid; '' for what needs no mid to be applied once."""
    if not delivery.mid or not isinstance(delivery.message, Cancel | Retry | Forget | Redeliver):
        return ""
    return KNOWN_SECONDS if delivery.message.request else KNOWN_UNNAMED_SECONDS


def _opening(old: Job | None, decision: Decision) -> str:
    """What this does to the tenant's open jobs."""
    before = old is not None and old.status in ACTIVE
    after = decision.job is not None and decision.job.status in ACTIVE
    return "" if before == after else "open" if after else "close"


def _fields(old: Job | None, decision: Decision, erase: Erase | None) -> tuple[list[tuple[str, bytes]], list[str]]:
    if decision.job is None:
        return [], []
    if erase is not None:
        return changed_fields(None, tombstone(decision.job))
    return changed_fields(old, decision.job)


def tombstone(job: Job) -> Job:
    """What is remembered of a job that is gone: that it was, and when it ended."""
    return replace(job, params={}, graph=(), stages={}, error=None, callback_url=None, webhooks=())


def _timers(job: str, effects: tuple[Effect, ...], now: int) -> tuple[list[tuple[Any, ...]], list[str]]:
    """What is left of setting and clearing timers in order: at most one step a timer. Delays, since the clock that
    counts is the journal's own: a host whose clock jumps neither hurries a timer nor holds it up."""
    steps: dict[str, SetTimer | None] = {}
    for effect in effects:
        if isinstance(effect, SetTimer | ClearTimer):
            steps[f"{job}|{effect.timer}"] = effect if isinstance(effect, SetTimer) else None
    sets = [(member, step.token, step.due - now) for member, step in steps.items() if step is not None]
    return sets, [member for member, step in steps.items() if step is None]


def _dispatch_id(job: str, token: int) -> str:
    return f"{job}|{token}"


def _outbox(job: str, decision: Decision) -> list[OutboxItem]:
    items = []
    tenant = decision.job.tenant if decision.job else ""
    for n, effect in enumerate(decision.effects):
        match effect:
            case Dispatch(token=token):
                items.append(OutboxItem(_dispatch_id(job, token), job, effect, tenant))
            case Deliver(webhook=webhook, n=try_):
                items.append(OutboxItem(f"{job}|webhook.{webhook}.{try_}", job, effect))
            case Interrupt() | Tidy() | RemoveFiles() | KeepSecret():
                items.append(OutboxItem(f"{job}|{decision.outcome.seq}.{n}", job, effect, tenant))
            case SetTimer() | ClearTimer() | Withdraw() | Erase():
                pass
            case _:
                assert_never(effect)
    return items
