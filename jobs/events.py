"""What the owner decided, past tense. An event is one entry of the journal, and its JSON is what every reader gets."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import FileRef, InputRef, Origin
from callsheet.jobs.messages import Undecodable


class JobSubmitted(msgspec.Struct, frozen=True):
    """The job exists, with all that its later events stand on."""

    id: str
    tenant: str
    pipeline: str
    params: dict[str, Any]
    graph: tuple[StageSpec, ...]
    input: InputRef
    fingerprint: str = ""
    callback_url: str | None = None
    callback_own_secret: bool = False
    origin: Origin = Origin()


class StageDispatched(msgspec.Struct, frozen=True):
    """The stage waits for a worker. The seq of this event is the token of the dispatch."""

    queue: str


class StageStarted(msgspec.Struct, frozen=True):
    """A worker claimed the dispatch and runs the stage."""

    token: int
    worker: str


class StageProgressed(msgspec.Struct, frozen=True):
    """The stage is this far, 0..1."""

    progress: float
    message: str
    n: int


class StageLogged(msgspec.Struct, frozen=True):
    """Lines of the job's log."""

    lines: tuple[str, ...]
    n: int


class PartialResult(msgspec.Struct, frozen=True):
    """A piece of the result, before the stage is done."""

    partial: dict[str, Any]
    n: int


class StageSucceeded(msgspec.Struct, frozen=True):
    """The stage is done; every output named here is published, with this digest.

    `reused`: the job that made them, where they were not made again.
    """

    outputs: tuple[FileRef, ...] = ()
    data: dict[str, Any] = {}
    result: dict[str, Any] = {}
    items: tuple[Any, ...] | None = None
    input: dict[str, Any] = {}
    reused: str = ""


class StageExpanded(msgspec.Struct, frozen=True):
    """A fan-out became one stage an item, `name:0` to `name:n-1` (none: the stage is skipped)."""

    items: tuple[Any, ...]


class StageFailed(msgspec.Struct, frozen=True):
    """A try of the stage failed. `lost`: its worker fell silent."""

    code: str
    message: str
    retryable: bool
    lost: bool = False


class StageRetryScheduled(msgspec.Struct, frozen=True):
    """The stage is tried again at `retry_at`, after `delay` seconds."""

    delay: float
    retry_at: str


class StageStopped(msgspec.Struct, frozen=True):
    """The stage does not run any more, and will not in this attempt unless `reason` is a worker's shutdown."""

    reason: Literal["cancelled", "job_failed", "shutdown"]


class CancelRequested(msgspec.Struct, frozen=True):
    """A cancel was accepted: no new stage starts, and the job never completes in this attempt."""


class JobCompleted(msgspec.Struct, frozen=True):
    """Every stage is settled well."""

    expires_at: str


class JobFailed(msgspec.Struct, frozen=True):
    """A stage failed for good."""

    code: str
    message: str
    failed_stage: str
    retryable: bool
    expires_at: str


class JobCancelled(msgspec.Struct, frozen=True):
    """The cancel is done; nothing of the job runs."""

    expires_at: str


class JobRetried(msgspec.Struct, frozen=True):
    """The next attempt is open. `reset` lists the stages that run again; the others' outputs are reused."""

    from_stage: str | None
    params: dict[str, Any]
    reset: tuple[str, ...]


WhyGivenUp = Literal["exhausted", "gone", "too_many_waiting", "retention", "forgotten"]


class WebhookDelivered(msgspec.Struct, frozen=True):
    """The receiver has answered try `n` of the webhook of terminal event `webhook` with success, after `duration` s."""

    webhook: int
    n: int
    status_code: int
    duration: float


class WebhookFailed(msgspec.Struct, frozen=True):
    """Try `n` of a webhook failed; the next one is due at `next_try_at`, if there is one."""

    webhook: int
    n: int
    code: str
    status_code: int | None
    duration: float
    next_try_at: str | None


class WebhookGivenUp(msgspec.Struct, frozen=True):
    """A webhook is not tried any more, unless somebody asks for it."""

    webhook: int
    reason: WhyGivenUp


class WebhookRequested(msgspec.Struct, frozen=True):
    """A client asked for a webhook again: it is tried at once, and as often as a new one."""

    webhook: int


WebhookBody = WebhookDelivered | WebhookFailed | WebhookGivenUp | WebhookRequested


class JobExpired(msgspec.Struct, frozen=True):
    """The job is over for good: its files go, then its record; a tombstone stays for a while."""

    reason: Literal["retention", "forgotten"]


Body = (
    JobSubmitted
    | StageDispatched
    | StageStarted
    | StageProgressed
    | StageLogged
    | PartialResult
    | StageSucceeded
    | StageExpanded
    | StageFailed
    | StageRetryScheduled
    | StageStopped
    | CancelRequested
    | JobCompleted
    | JobFailed
    | JobCancelled
    | JobRetried
    | WebhookBody
    | JobExpired
)
BODIES: dict[str, type[Any]] = {body.__name__: body for body in Body.__args__}
TERMINAL_EVENTS: frozenset[str] = frozenset({"JobCompleted", "JobFailed", "JobCancelled", "JobExpired"})


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a journal: its number, kind, time (RFC 3339, UTC), the attempt, the stage, and what happened."""

    seq: int
    type: str
    at: str
    attempt: int
    data: Body
    stage: str | None = None


class _RawEvent(msgspec.Struct, frozen=True):
    seq: int
    type: str
    at: str
    attempt: int
    data: msgspec.Raw
    stage: str | None = None


_encoder = msgspec.json.Encoder()
_raw_decoder = msgspec.json.Decoder(_RawEvent)
_body_decoders = {name: msgspec.json.Decoder(body) for name, body in BODIES.items()}


def encode_event(event: Event) -> bytes:
    """The event as JSON: exactly what the journal holds and a watcher receives."""
    return _encoder.encode(event)


def decode_event(raw: bytes) -> Event:
    """The event in these bytes; Undecodable when there is none."""
    try:
        outer = _raw_decoder.decode(raw)
        data = _body_decoders[outer.type].decode(outer.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise Undecodable(str(error)) from None
    return Event(outer.seq, outer.type, outer.at, outer.attempt, data, outer.stage)
