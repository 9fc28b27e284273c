"""One watcher over SSE, as cheap as it can be: five hundred of them must not be what is measured."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from typing import Self

AT = re.compile(rb'"at":"([^"]+)"')
SENT = re.compile(rb'"message":"([0-9.]+)"')


def request(job: str, after: int) -> bytes:
    """What asks for the feed of a job."""
    path = f"/v1/jobs/{job}/events?after={after}"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()


class Watcher(asyncio.Protocol):
    """Notes how old each StageProgressed is when its bytes arrive: since its `at`, and since its report was sent."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.since_event: list[float] = []
        self.since_report: list[float] = []
        self._transport: asyncio.Transport | None = None
        self._bytes = bytearray()
        self._more = asyncio.Event()

    @classmethod
    async def open(cls, port: int, job: str, after: int = 0) -> Self:
        """Watch a job from its event `after` on."""
        loop = asyncio.get_running_loop()
        transport, watcher = await loop.create_connection(cls, "127.0.0.1", port)
        watcher._transport = transport  # noqa: SLF001  (our own)
        transport.write(request(job, after))
        return watcher

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        now = time.time()
        self._bytes += data
        while (end := self._bytes.find(b"\n\n")) >= 0:
            frame = bytes(self._bytes[:end])
            del self._bytes[: end + 2]
            self._heard(frame, now)

    def _heard(self, frame: bytes, now: float) -> None:
        if b"event: StageStarted" in frame or b"event: PartialResult" in frame:
            self.opened.set()
        sent, at = SENT.search(frame), AT.search(frame)
        if b"event: StageProgressed" in frame and sent and at:
            self.since_report.append(now - float(sent[1]))
            self.since_event.append(now - datetime.fromisoformat(at[1].decode()).timestamp())
            self._more.set()

    async def seen(self, count: int) -> None:
        """Wait for so many events of progress."""
        while len(self.since_event) < count:
            self._more.clear()
            await self._more.wait()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()
