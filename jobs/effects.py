"""What must happen because of a decision, as data. The commit itself carries out some, the performer the rest."""

from __future__ import annotations

import msgspec

from callsheet.jobs.messages import Undecodable


class SetTimer(msgspec.Struct, frozen=True, tag=True):
    """In the commit: send the job `Fired(timer, token)` at `due` (ms since the epoch). Setting it again moves it."""

    timer: str
    token: int
    due: int


class ClearTimer(msgspec.Struct, frozen=True, tag=True):
    """In the commit: drop the timer, if it is set."""

    timer: str


class Withdraw(msgspec.Struct, frozen=True, tag=True):
    """In the commit: the dispatch with this token is claimed or void, never send it to the broker again."""

    token: int


class Erase(msgspec.Struct, frozen=True, tag=True):
    """In the commit: delete journal and snapshot, leave a tombstone for `tombstone` seconds. Files must be gone."""

    tombstone: int


class Dispatch(msgspec.Struct, frozen=True, tag=True):
    """By the performer: hand the stage to the broker. Safe to repeat: the second claim is refused."""

    stage: str
    token: int
    queue: str


class Interrupt(msgspec.Struct, frozen=True, tag=True):
    """By the performer: tell the worker that runs this token to kill it. Safe to repeat, and to lose: workers look."""

    stage: str
    token: int


class Tidy(msgspec.Struct, frozen=True, tag=True):
    """By the performer: remove the stage folders of dispatches before `before`, but for those in `keep`.

    Safe to repeat, and safe to be late: what a retry publishes meanwhile has a later token.
    """

    keep: tuple[str, ...]
    before: int


class RemoveFiles(msgspec.Struct, frozen=True, tag=True):
    """By the performer: remove every file of the job, then send it `FilesRemoved`. Safe to repeat."""


class Deliver(msgspec.Struct, frozen=True, tag=True):
    """By the performer: make try `n` of the webhook of terminal event `webhook`, then send the job what came of it.

    Safe to repeat: the receiver is told the same under the same id, and only the first outcome counts.
    """

    webhook: int
    n: int


class KeepSecret(msgspec.Struct, frozen=True, tag=True):
    """By the performer: keep the secret that came with the submission for as long as the job. Safe to repeat."""


CommitEffect = SetTimer | ClearTimer | Withdraw | Erase
OutboxEffect = Dispatch | Interrupt | Tidy | RemoveFiles | Deliver | KeepSecret
Effect = CommitEffect | OutboxEffect
EFFECTS: tuple[type[msgspec.Struct], ...] = Effect.__args__

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[OutboxEffect] = msgspec.json.Decoder(OutboxEffect)


def encode_effect(effect: OutboxEffect) -> bytes:
    """The effect as the outbox keeps it."""
    return _encoder.encode(effect)


def decode_effect(raw: bytes) -> OutboxEffect:
    """The effect in these bytes; Undecodable when there is none."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(str(error)) from None
