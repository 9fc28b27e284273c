"""Clients that drip: many of them take no connection, and no time, from the others."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import Self

import httpx
import pytest

from callsheet.http.worker import HEADER_SECONDS
from tests.http.service import Api
from tests.waiting import eventually

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n"
BODY = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + FORM


class Drips:
    """Connections that send a byte of their headers, or of their body, every second; a closed one is opened again."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._links = list[socket.socket]()
        self._over = threading.Event()
        self.dripping = threading.Event()
        self._thread = threading.Thread(target=self._drip)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for link in self._links:
            link.close()

    def _drip(self) -> None:
        while not self._over.wait(1.0 if self._links else 0.0):
            self._links = [link for link in self._links if self._alive(link)]
            while len(self._links) < self._count:
                link = socket.create_connection(("127.0.0.1", self._port), timeout=60)
                link.sendall(HEAD if len(self._links) % 2 else BODY)
                self._links.append(link)
            self.dripping.set()

    @staticmethod
    def _alive(link: socket.socket) -> bool:
        with selectors.DefaultSelector() as readable, contextlib.suppress(OSError):
            readable.register(link, selectors.EVENT_READ)
            if not readable.select(0):
                link.sendall(b"a")
                return True
        link.close()
        return False


@pytest.mark.soak  # in every run too, where it is a short one without a limit
def test_dripping_connections_leave_good_requests_alone(api: Api, request: pytest.FixtureRequest) -> None:
    """200 of them for half a minute, and each good request is answered within half a second."""
    long = request.config.getoption("markexpr") == "soak"
    took = list[float]()
    with Drips(api.port, 200 if long else 50) as drips, httpx.Client(base_url=api.url, timeout=60) as client:
        eventually(drips.dripping.is_set)
        end = time.monotonic() + (30 if long else 1)
        while time.monotonic() < end:
            begun = time.monotonic()
            assert client.get("/v1/jobs?limit=1").status_code == 200
            assert api.submit().status_code == 202
            took.append(time.monotonic() - begun)
    took.sort()
    assert not long or took[-1] < 0.5, f"median {took[len(took) // 2]:.3f} s, worst {took[-1]:.3f} s"


def test_headers_that_drip_are_answered_408_within_the_deadline(api: Api) -> None:
    """Each byte in time, and the whole never: the clock does not begin anew with every byte."""
    begun = {"line": b"", "name": b"GET /healthz HTTP/1.1\r\n", "value": HEAD + b"X-Slow: "}
    answers = dict.fromkeys(begun, b"")
    with contextlib.ExitStack() as stack:
        links = {at: stack.enter_context(socket.create_connection(("127.0.0.1", api.port))) for at in begun}
        for at, link in links.items():
            link.settimeout(0.1)
            link.sendall(begun[at])
        deadline = time.monotonic() + HEADER_SECONDS + 60
        while not all(answers.values()) and time.monotonic() < deadline:
            for at in [at for at, answer in answers.items() if not answer]:
                answers[at] = next_of(links[at])
        assert {answer[:13] for answer in answers.values()} <= {b"HTTP/1.1 408 ", b"closed"}
        for link in links.values():  # the rest of the answer, and the end
            assert any(next_of(link) == b"closed" for _ in range(300))


def next_of(link: socket.socket) -> bytes:
    """What comes, if anything does; else one more byte goes."""
    try:
        return link.recv(1000) or b"closed"
    except TimeoutError:
        with contextlib.suppress(OSError):
            link.sendall(b"a")
        return b""
    except ConnectionResetError:  # it was closed, and a byte of ours met the answer on its way
        return b"closed"
