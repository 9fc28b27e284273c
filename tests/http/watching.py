"""Watchers of a job: over Server-Sent Events, over a WebSocket, and afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.http.service import Api

SSE = {"Accept": "text/event-stream"}


def watch(client: httpx.Client, job: str, after: int | None = None, **headers: str) -> Iterator[ServerSentEvent]:
    """The events of one connection."""
    path = f"/v1/jobs/{job}/events" + ("" if after is None else f"?after={after}")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with connect_sse(client, "GET", path, headers=named) as source:
        assert source.response.status_code == 200
        yield from source.iter_sse()


def history(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    return client.get(f"/v1/jobs/{job}/events?limit=1000").json()["events"]  # type: ignore[no-any-return]


@contextmanager
def dialled(api: Api, job: str, after: int = 0, close_timeout: float = 5.0, **more: Any) -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{api.port}/v1/jobs/{job}/ws?after={after}"
    with connect(address, close_timeout=close_timeout, **more) as link:
        yield link


def receive(link: ClientConnection) -> dict[str, Any]:
    """The next frame that is no ping."""
    while True:
        frame: dict[str, Any] = json.loads(link.recv(30))
        if frame["type"] != "ping":
            return frame


def to_the_end(link: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """All frames, and the code that it was closed with."""
    frames = []
    try:
        while True:
            frames.append(receive(link))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else None
