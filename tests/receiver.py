"""A receiver of webhooks on a real socket, which behaves as a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from standardwebhooks.webhooks import Webhook

Behaviour = Callable[["Receiver", socket.socket], None]


class Request(NamedTuple):
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The payload; raises WebhookVerificationError."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Listens on a port of its own; `behave` is how it treats whom it has read to the end."""

    def __init__(self, behave: Behaviour | None = None) -> None:
        self.behave = behave or answers(204)
        self.got: list[Request] = []
        self.connected = 0
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.place = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.place}/hook"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def of(self, job: str) -> list[Request]:
        """What came of a job: a webhook is sent at least once."""
        return [request for request in self.got if request.id.startswith(job)]

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connected += 1
            threading.Thread(target=self._serve, args=[link], daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            self.got.append(_read(link))
            self.behave(self, link)


def _read(link: socket.socket) -> Request:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += link.recv(65536) or _gone()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += link.recv(65536) or _gone()
    return Request(first.split(" ")[1], headers, body)


def _gone() -> bytes:
    raise ConnectionError


def answers(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answers at once."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    def behave(_receiver: Receiver, link: socket.socket) -> None:
        link.sendall(head.encode() + body)

    return behave


def waits(go_on: threading.Event, then: Behaviour) -> Behaviour:
    """Says nothing until it is told to go on."""

    def behave(receiver: Receiver, link: socket.socket) -> None:
        while not go_on.wait(0.05):
            if receiver.stopping.is_set():
                return
        then(receiver, link)

    return behave


def hangs(receiver: Receiver, link: socket.socket) -> None:
    """Never says a word."""
    while not receiver.stopping.wait(0.05) and link.fileno() >= 0:
        pass


def drips(receiver: Receiver, link: socket.socket) -> None:
    """Begins with a success, and then a byte now and then, for ever."""
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not receiver.stopping.wait(0.02):
        link.sendall(b".")


def drips_headers(receiver: Receiver, link: socket.socket) -> None:
    """Never gets to the end of its first line."""
    link.sendall(b"HTTP/1.1 200 ")
    while not receiver.stopping.wait(0.02):
        link.sendall(b"O")


def floods(receiver: Receiver, link: socket.socket) -> None:
    """Answers without end, as fast as it can."""
    link.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not receiver.stopping.is_set():
        link.sendall(b"x" * 65536)


def floods_with_headers(receiver: Receiver, link: socket.socket) -> None:
    """Its headers have no end."""
    link.sendall(b"HTTP/1.1 200 OK\r\n")
    while not receiver.stopping.is_set():
        link.sendall(b"X-More: " + b"x" * 8000 + b"\r\n")


def hints(receiver: Receiver, link: socket.socket) -> None:
    """Says without end that the answer is about to come."""
    while not receiver.stopping.is_set():
        link.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def bombs(_receiver: Receiver, link: socket.socket) -> None:
    """What would be a gigabyte if somebody unpacked it."""
    link.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\nConnection: close\r\n\r\n\x1f\x8b\x08\x00"
    )


def hangs_up(_receiver: Receiver, _link: socket.socket) -> None:
    """Closes without an answer."""
