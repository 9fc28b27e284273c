"""A job's events: the history as JSON, the live feed as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.feed import CursorLostError, Feed, FeedEntry
from callsheet.http.body import Body
from callsheet.http.conditions import checked_number, whole_number
from callsheet.http.problems import Problem
from callsheet.http.reach import find, tenant_of
from callsheet.http.represent import events_json, job_json
from callsheet.http.schemas import Reset
from callsheet.jobs.events import TERMINAL_EVENTS
from callsheet.jobs.job import TERMINAL, Job

MAX_SEQ = 10**15
MAX_PAGE = 1000
# No blank line behind these: some clients take one for the end of an event without data.
RETRY = b"retry: 2000\n"
PING = b": ping\n"


class JobEvents:
    """`/v1/jobs/{job_id}/events`."""

    def __init__(self, jobs: Jobs, feed: Feed, ping_seconds: float) -> None:
        self._jobs = jobs
        self._feed = feed
        self._ping_seconds = ping_seconds

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """History, or the live feed for who asks for an event stream."""
        job = await find(self._jobs, job_id, tenant_of(req))
        resp.append_header("Vary", "Accept")
        if "text/event-stream" not in (req.get_header("Accept") or "").lower():
            return await self._history(req, resp, job_id)
        after = _cursor(req)
        if job.status in TERMINAL and after == job.seq:
            resp.status = 204  # nothing new, and nothing will come: this stops an EventSource
            return None
        resp.content_type = "text/event-stream"
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Accel-Buffering", "no")
        body: Body = req.scope["callsheet.body"]
        resp.stream = EventStream(  # type: ignore[assignment]  # Falcon closes what has `close`
            self._jobs, self._feed, job, after=after, ping_seconds=self._ping_seconds, body=body
        )
        return None

    async def _history(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        after = whole_number(req, "after", 0, 0, MAX_SEQ)
        limit = whole_number(req, "limit", 500, 1, MAX_PAGE)
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-cache")
        resp.data = events_json(await self._jobs.events(job_id, after, limit), after)


class EventStream:
    """The frames of one watcher. Falcon closes it when the client goes."""

    def __init__(self, jobs: Jobs, feed: Feed, job: Job, *, after: int, ping_seconds: float, body: Body) -> None:
        self._jobs = jobs
        self._feed = feed
        self._job = job.id
        self._tenant = job.tenant
        self._body = body
        self._after = after
        self._ping_seconds = ping_seconds
        self._frames = self._generate()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._frames

    async def close(self) -> None:
        """Leave the feed."""
        await self._frames.aclose()

    async def _generate(self) -> AsyncGenerator[bytes, None]:
        yield RETRY
        leaving = asyncio.ensure_future(self._body.left())
        try:
            async with aclosing(self._live()) as live:
                async for frames in live:
                    yield frames
                    if leaving.done():
                        return
        finally:
            leaving.cancel()

    async def _live(self) -> AsyncGenerator[bytes, None]:
        while not self._feed.stopping:
            try:
                async with aclosing(self._follow()) as followed:
                    async for frames in followed:
                        yield frames
                return
            except CursorLostError:
                pass
            # The journal does not continue from what the client has: it gets the job as it is, and goes on from there.
            try:
                job = await find(self._jobs, self._job, self._tenant)
            except Problem:
                return
            self._after = job.seq
            yield b"event: reset\ndata: %s\n\n" % msgspec.json.encode(Reset(job_json(job)))
            if job.status in TERMINAL:
                return

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._feed.follow(self._job, self._after, self._ping_seconds)) as batches:
            async for batch in batches:
                yield b"".join(entry.frame for entry in batch) or PING
                if batch and is_the_end(self._feed, self._job, batch[-1]):
                    return


def is_the_end(feed: Feed, job: str, entry: FeedEntry) -> bool:
    """Whether a watcher that got this event has seen all: what ended the job, and nothing after it."""
    return entry.type in TERMINAL_EVENTS and feed.is_newest(job, entry.seq)


def _cursor(req: falcon.asgi.Request) -> int:
    """Where the watcher is: what its browser remembers counts more than what the page once asked for."""
    last = req.get_header("Last-Event-ID")
    if last is not None:
        return checked_number("Last-Event-ID", last.strip(), 0, MAX_SEQ)
    return whole_number(req, "after", 0, 0, MAX_SEQ)
