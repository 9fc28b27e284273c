"""What goes over the wire between a caller and Redis, in both directions: the same for either kind of client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec
from redis.exceptions import RedisError

from callsheet.actors.errors import MailboxFull, Unavailable
from callsheet.actors.keys import PARTITIONS, PartitionKeys
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import StageState
from callsheet.jobs.messages import Message, Submit, encode_message

MAX_MAILBOX = 100_000
# Who finds no connection free waits for one: redis-py's own pool would refuse the 101st request at once.
CONNECTION: dict[str, Any] = {
    "max_connections": 64,
    "timeout": 5.0,
    "health_check_interval": 15,
    "socket_connect_timeout": 2.0,
    "socket_timeout": 5.0,
}
# For the answers to those who block: one each, kept for as long as their thread lives.
ANSWERS: dict[str, Any] = {**CONNECTION, "max_connections": 1024}
del ANSWERS["timeout"]
SEND = files("callsheet.actors").joinpath("lua/send.lua").read_text()

# What redis-py raises when a server cannot be reached or cannot write: mostly its own errors, but not always.
REDIS_AWAY = (RedisError, OSError)

_outcome = msgspec.json.Decoder(Outcome)
_stage = msgspec.json.Decoder(StageState)


class EventEntry(msgspec.Struct, frozen=True):
    """One event as stored: its seq, its type, and its JSON."""

    seq: int
    type: str
    raw: bytes


def fixed_partitions(client: Any, wanted: int) -> list[PartitionKeys]:
    """The partitions there are; the first one to ask decides their number for good."""
    client.set(PARTITIONS, wanted, nx=True)
    return partition_keys(client.get(PARTITIONS))


def partition_keys(found: bytes | None) -> list[PartitionKeys]:
    """The keys of as many partitions as were found. A guess would send messages where nobody reads them."""
    if found is None:
        raise Unavailable("the journal was emptied at this very moment")
    return [PartitionKeys(number) for number in range(int(found))]


def sending(
    keys: PartitionKeys, job: str, message: Message, mid: str, reply: str, *, secret: str = ""
) -> tuple[list[str], list[Any]]:
    """The keys and arguments of send.lua for a message; `secret`: what is to sign the webhooks of a job submitted."""
    body = encode_message(message)
    names, receipt = [keys.mailbox, keys.receipt(job)], b""
    if isinstance(message, Submit):
        names, receipt = [*names, keys.callback_secret(job), keys.index(message.tenant), keys.snapshot(job)], body
    return names, [MAX_MAILBOX, job, mid, body, reply, receipt, secret]


def check_sent(answer: Any) -> None:
    """Raise MailboxFull unless the message is in."""
    if answer == b"FULL":
        raise MailboxFull


def read_reply(raw: bytes) -> tuple[bytes, Outcome]:
    """The mid that was asked under, and the owner's outcome."""
    mid, _, outcome = raw.partition(b" ")
    return mid, _outcome.decode(outcome)


def read_stage(status: bytes | None, stage: bytes | None) -> tuple[str, StageState | None]:
    """The status of a job and one of its stages; ("absent", None) where there is none."""
    if status is None:
        return "absent", None
    return msgspec.json.decode(status), _stage.decode(stage) if stage else None


def read_entries(entries: Any) -> list[EventEntry]:
    """Events as XRANGE answers them."""
    return [EventEntry(int(id_.partition(b"-")[0]), fields[b"t"].decode(), fields[b"e"]) for id_, fields in entries]


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """What goes wrong with Redis is Unavailable to the caller."""
    try:
        yield
    except REDIS_AWAY as error:
        raise Unavailable(f"the journal cannot be reached or cannot write ({type(error).__name__})") from error
