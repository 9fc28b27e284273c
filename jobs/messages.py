"""What anybody may send to a job: commands (imperative), reports from a stage, and timers. Frozen, typed, tagged."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import FileRef, InputRef, Origin


class Command(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Something a client wants. `if_match`: refuse unless the job's seq is exactly this.

    `request`: a digest of what the client sent, if it gave it a name (an idempotency key); the outcome repeats it.
    """

    request: str = ""


class Submit(Command, frozen=True, tag=True):
    """Create the job. The graph travels with it, so that a job in flight keeps the graph it was accepted with.

    `fingerprint` is a digest of what the client sent: a submission repeated under one id must carry the same.
    `callback_own_secret`: the client has given a secret for its webhooks, which is kept apart from all messages.
    """

    job: str
    tenant: str
    pipeline: str
    params: dict[str, Any]
    graph: tuple[StageSpec, ...]
    input: InputRef
    fingerprint: str = ""
    callback_url: str | None = None
    callback_own_secret: bool = False
    origin: Origin = Origin()


class Cancel(Command, frozen=True, tag=True):
    """Stop the job for good (until a retry)."""

    if_match: int | None = None


class Retry(Command, frozen=True, tag=True):
    """Open the next attempt, from a stage (default: what has not succeeded; everything if all has)."""

    from_stage: str | None = None
    params: dict[str, Any] | None = None
    if_match: int | None = None


class Forget(Command, frozen=True, tag=True):
    """Remove the job's files, then its record."""

    if_match: int | None = None


class Redeliver(Command, frozen=True, tag=True):
    """Send a webhook again, that of the terminal event `seq` (default: the latest)."""

    seq: int | None = None
    if_match: int | None = None


class Report(msgspec.Struct, frozen=True, tag_field="type"):
    """What a stage says about itself. It counts only with the current token; one with an `n`, which rises, once."""

    stage: str
    token: int


class Claim(Report, frozen=True, tag=True):
    """A worker asks for the right to run this dispatch. `worker` names this very delivery, so asking twice is safe."""

    worker: str


class Heartbeat(Report, frozen=True, tag=True):
    """The stage is alive."""


class Progress(Report, frozen=True, tag=True):
    """How far the stage is, 0..1."""

    n: int
    fraction: float
    message: str = ""


class LogLines(Report, frozen=True, tag=True):
    """Lines for the job's log."""

    n: int
    lines: tuple[str, ...]


class Partial(Report, frozen=True, tag=True):
    """A piece of the result that watchers may see before the stage ends."""

    n: int
    data: dict[str, Any]


Chatter = Progress | LogLines | Partial


class Ending(Report, frozen=True, kw_only=True):
    """The last word of a dispatch. `said`: what the stage had to say before it and is not told yet."""

    said: tuple[Chatter, ...] = ()


class Succeeded(Ending, frozen=True, tag=True):
    """The stage is done and its outputs are published.

    `onward`: the name under which the worker would run the job's next stage of the same queue; "" if it would not.
    `reused`: the job whose stage made these outputs, when they were not made again.
    """

    outputs: tuple[FileRef, ...] = ()
    data: dict[str, Any] = {}
    result: dict[str, Any] = {}
    items: tuple[Any, ...] | None = None
    input: dict[str, Any] = {}
    onward: str = ""
    reused: str = ""


class Failed(Ending, frozen=True, tag=True):
    """The stage ended with a typed failure."""

    code: str
    message: str
    retryable: bool = False


class Stopped(Ending, frozen=True, tag=True):
    """The stage's process group is dead: it was interrupted, or its worker is shutting down.

    `worker`: the only one whose run is meant, from whoever does not know whether it was given the dispatch.
    """

    reason: Literal["interrupted", "shutdown"] = "interrupted"
    worker: str = ""


class Fired(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """A timer that the job set has come due. `token` is what it was set with; `late`: ms since it was due."""

    timer: str
    token: int
    late: int = 0


class Delivered(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """Try `n` of the webhook of terminal event `webhook` was answered with success, after `duration` seconds."""

    webhook: int
    n: int
    status_code: int
    duration: float


class DeliveryFailed(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """Try `n` of a webhook failed: `code` says why, `status_code` what the receiver answered, if it did."""

    webhook: int
    n: int
    code: str
    status_code: int | None = None
    duration: float = 0.0


class DeliveryPostponed(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """Try `n` of a webhook was not made yet: too many wait for that receiver already."""

    webhook: int
    n: int


class FilesRemoved(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """The performer has removed every file of the job."""


Message = (
    Submit
    | Cancel
    | Retry
    | Forget
    | Redeliver
    | Claim
    | Heartbeat
    | Progress
    | LogLines
    | Partial
    | Succeeded
    | Failed
    | Stopped
    | Fired
    | Delivered
    | DeliveryFailed
    | DeliveryPostponed
    | FilesRemoved
)
MESSAGES: tuple[type[msgspec.Struct], ...] = Message.__args__


class Undecodable(ValueError):  # noqa: N818  (as an adjective it says which bytes are meant)
    """The bytes are no message, event or effect that this version knows."""


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """The message as JSON, its kind in `type`."""
    return _encoder.encode(message)


def decode_message(raw: bytes) -> Message:
    """The message in these bytes; Undecodable when there is none."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(str(error)) from None
