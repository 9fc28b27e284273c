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

NOT_READING, READING, EVENTS = 20, 5, 1500
PIECE = "x" * 40_000
MAY_GROW = 64 * 1024 * 1024  # bytes; it is 15 and 33 million. Without a bound on the ring 125, on the page 4,600


def memory(api: Api) -> int:
    """Resident bytes of the process that serves."""
    return max(int(child.memory_info().rss) for child in psutil.Process(api.process.pid).children(recursive=True))


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

    async def story() -> list[list[int]]:
        watching = [asyncio.create_task(read_all(api, job)) for _ in range(READING)]
        await asyncio.to_thread(play)
        return await asyncio.wait_for(asyncio.gather(*watching), 60)

    with ExitStack() as stack:
        not_read(stack, api, job, 1)  # they get what comes from then on
        before = memory(api)
        assert asyncio.run(story()) == [list(range(1, EVENTS + 9))] * READING
        live = memory(api)
        not_read(stack, api, job, 2_000)  # they have it all to catch up with
        late = memory(api)
    assert live - before < MAY_GROW, (before, live)
    assert late - before < MAY_GROW, (before, late)


def not_read(stack: ExitStack, api: Api, job: str, there: int) -> None:
    """Watchers of the whole job who take nothing of it; so many bytes are there for each when this returns."""
    links = [stack.enter_context(socket.socket()) for _ in range(NOT_READING)]
    for link in links:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", api.port))
        link.sendall(ask(job))
    for link in links:
        assert len(link.recv(there, socket.MSG_PEEK | socket.MSG_WAITALL)) == there
