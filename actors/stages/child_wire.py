"""What a worker and its stage child say to each other: JSON, each message after its length in 4 bytes, big-endian."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from callsheet.actors.stores.store import Place
from callsheet.media.providers.base import ProviderSettings
from callsheet.pipelines.declare import StageOutput

MAX_MESSAGE = 8 << 20  # bytes the child may send at once: an output has bounds of its own, far below
LENGTH = 4
T = TypeVar("T")


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message: what to load, and the limits (bytes) the process gives itself."""

    pipelines: tuple[str, ...]
    models: str
    memory: int
    file_size: int
    max_upload: int
    max_seconds: float
    max_pixels: int
    threads: int
    addresses: tuple[str, ...] = ()
    providers: ProviderSettings = ProviderSettings()


class Request(msgspec.Struct, frozen=True, tag=True):
    """Run a stage. `stage` may be an instance (`clip:3`). `files`: stage -> name -> where. Of stages that succeeded."""

    pipeline: str
    stage: str
    params: dict[str, Any]
    folder: str
    input: Place
    filename: str
    media_type: str
    bytes: int
    item: Any = None
    files: dict[str, dict[str, Place]] = {}
    data: dict[str, dict[str, Any]] = {}
    instances: dict[str, tuple[str, ...]] = {}
    ledger: str = ""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The pipelines are loaded."""


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """The stage is this far, 0..1."""

    fraction: float
    message: str


class Said(msgspec.Struct, frozen=True, tag=True):
    """One line for the job's log."""

    line: str


class Showed(msgspec.Struct, frozen=True, tag=True):
    """A piece of the result."""

    data: dict[str, Any]
    size: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """The stage function returned. `clean`: no process is left that it has started."""

    output: StageOutput
    clean: bool = True


class Raised(msgspec.Struct, frozen=True, tag=True):
    """It failed (or, instead of Ready, the child cannot work). `details` are for the worker's log only."""

    code: str
    message: str
    retryable: bool = False
    details: str = ""
    clean: bool = True


ToChild = Setup | Request
FromChild = Ready | Advanced | Said | Showed | Done | Raised

_encoder = msgspec.json.Encoder()
_to_child: msgspec.json.Decoder[ToChild] = msgspec.json.Decoder(ToChild)
_from_child: msgspec.json.Decoder[FromChild] = msgspec.json.Decoder(FromChild)


def frame(message: ToChild | FromChild) -> bytes:
    """The message as it travels. Raises TypeError or ValueError for what JSON cannot hold."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH, "big") + body


def receive(control: socket.socket) -> ToChild | None:
    """The next message to the child, however long it takes; None when the worker is gone."""
    length = _exactly(control, LENGTH)
    body = _exactly(control, int.from_bytes(length, "big")) if length else None
    return _to_child.decode(body) if body else None


def _exactly(control: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        piece = control.recv(min(1 << 20, size - len(received)))
        if not piece:
            return None
        received += piece
    return bytes(received)


class Inbox:
    """Puts the child's messages together from what arrives of them."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[FromChild]:
        """The messages that are complete now. Raises ValueError for what is none."""
        self._received += data
        while len(self._received) >= LENGTH:
            end = LENGTH + int.from_bytes(self._received[:LENGTH], "big")
            if end > LENGTH + MAX_MESSAGE:
                raise ValueError(f"sent a message of {end - LENGTH} bytes")
            if len(self._received) < end:
                return
            body = bytes(self._received[LENGTH:end])
            del self._received[:end]
            try:
                yield _from_child.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ValueError(f"sent what is no message: {error}") from None
