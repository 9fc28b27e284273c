"""Watchers that do not read: what they hold is bounded, and the others get everything meanwhile."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack

import psutil

from callsheet.jobs.messages import Partial
from tests.http.service import Api, Stages

NOT_READING, READING, EVENTS = 20, 20, 200
PIECE = "x" * 40_000
MAY_GROW = 32 * 1024 * 1024  # bytes; without bounds on the ring and the page it was 48 million


def memory(api: Api) -> int:
    """Resident bytes of the process that serves."""
    return max(child.memory_info().rss for child in psutil.Process(api.process.pid).children(recursive=True))


def ask(job: str) -> bytes:
    return f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()


async def read_all(api: Api, job: str) -> list[int]:
    """The numbers of all events, in the order in which they come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=2**20)
    writer.write(ask(job))
    seen, rest = list[int](), b""
    while piece := await reader.read(2**16):
        *lines, rest = (rest + piece).split(b"\n")
        seen += [int(found[1]) for line in lines if (found := re.match(rb"id: (\d+)\r?\Z", line))]
        if b"event: JobCompleted" in lines:
            break
    writer.close()
    return seen


def test_who_does_not_read_holds_little_and_holds_up_nobody(make_api: Callable[..., Api], stages: Stages) -> None:
    api = make_api(api_workers="1")
    job = api.submit().json()["id"]
    token = stages.start(job, "one")

    def play() -> None:
        for n in range(1, EVENTS + 1):
            stages.jobs.tell(job, Partial("one", token, n, {"text": PIECE}))
        stages.succeed(job, "one", token)
        stages.succeed(job, "two", stages.start(job, "two"))

    async def story() -> tuple[list[list[int]], int]:
        watching = [asyncio.create_task(read_all(api, job)) for _ in range(READING)]
        await asyncio.to_thread(play)
        return await asyncio.wait_for(asyncio.gather(*watching), 60), memory(api)

    with ExitStack() as stack:
        for _ in range(NOT_READING):
            link = stack.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.connect(("127.0.0.1", api.port))
            link.sendall(ask(job))
            link.recv(1, socket.MSG_PEEK)  # it is served
        before = memory(api)
        seen, after = asyncio.run(story())
    assert seen == [list(range(1, EVENTS + 9))] * READING
    assert after - before < MAY_GROW, (before, after)
