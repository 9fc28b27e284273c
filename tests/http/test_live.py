"""Two hundred watchers, each cut off twenty times at random, half over SSE, half over WebSocket (I23)."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from contextlib import aclosing

import httpx
import pytest
from httpx_sse import aconnect_sse
from websockets.asyncio.client import connect

from tests.http.service import Api, Stages

WATCHERS, CUTS, EVENTS = 200, 20, 400


class Watcher:
    """Counts what it sees, and goes on where it was cut off."""

    def __init__(self, api: Api, job: str, number: int) -> None:
        self.seen: list[int] = []
        self._api = api
        self._job = job
        self._dice = random.Random(number)
        self._follow = self._socket if number % 2 else self._stream

    async def watch(self, client: httpx.AsyncClient) -> None:
        """Cut off so many times, then to the end."""
        for _ in range(CUTS):
            if await self._follow(client, self._dice.randint(1, 2 * EVENTS // CUTS)):
                return
        while not await self._follow(client, 10**9):
            pass

    async def _stream(self, client: httpx.AsyncClient, wanted: int) -> bool:
        headers = {"Last-Event-ID": str(self.seen[-1])} if self.seen else {}
        async with aconnect_sse(client, "GET", f"/v1/jobs/{self._job}/events", headers=headers) as source:
            if source.response.status_code == 204:
                return True
            assert source.response.status_code == 200
            async with aclosing(source.aiter_sse()) as events:
                async for event in events:
                    self.seen.append(int(event.id))
                    wanted -= 1
                    if not wanted:
                        return False
        return event.event == "JobCompleted"

    async def _socket(self, _client: httpx.AsyncClient, wanted: int) -> bool:
        after = self.seen[-1] if self.seen else 0
        address = f"ws://127.0.0.1:{self._api.port}/v1/jobs/{self._job}/ws?after={after}"
        async with connect(address, open_timeout=60, ping_interval=None, close_timeout=0.1) as link:
            async for frame in link:
                event = json.loads(frame)
                if "seq" in event:
                    self.seen.append(event["seq"])
                    wanted -= 1
                if not wanted:
                    link.transport.abort()
                    return False
        return True


def play(stages: Stages, job: str) -> None:
    """Some seconds of a busy job."""
    token = stages.start(job, "one")
    for n in range(1, EVENTS + 1):
        stages.progress(job, "one", token, n, n / EVENTS)
        time.sleep(0.01)  # the job's own pace
    stages.succeed(job, "one", token)
    stages.succeed(job, "two", stages.start(job, "two"))


@pytest.mark.timeout(180)
def test_every_watcher_sees_exactly_all_events(api: Api, job: str, client: httpx.Client, stages: Stages) -> None:
    async def story() -> list[Watcher]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=limits) as own:
            watchers = [Watcher(api, job, n) for n in range(WATCHERS)]
            await asyncio.gather(*(watcher.watch(own) for watcher in watchers))
            return watchers

    player = threading.Thread(target=play, args=(stages, job))
    player.start()
    try:
        watchers = asyncio.run(story())
    finally:
        player.join()
    last = client.get(f"/v1/jobs/{job}").json()["seq"]
    assert last > EVENTS
    expected = list(range(1, last + 1))
    assert [n for n, watcher in enumerate(watchers) if watcher.seen != expected] == []
