"""A job's events: the history as JSON, the live feed as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.feeds.job_feed import CursorLostError, Feed
from callsheet.http.body import Body
from callsheet.http.conditions import checked_number, wants_stream, whole_number
from callsheet.http.problems import Problem
from callsheet.http.reach import find, tenant_of
from callsheet.http.represent import events_json, job_json
from callsheet.http.schemas import Reset
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
        if not wants_stream(req):
            return await self._history(req, resp, job_id)
        after = _cursor(req)
        if job.status in TERMINAL and after == job.seq:
            resp.status = 204  # nothing new, and nothing will come: this stops an EventSource
            return None
        return put_stream(req, resp, self._frames(job, after))

    async def _history(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        after = whole_number(req, "after", 0, 0, MAX_SEQ)
        limit = whole_number(req, "limit", 500, 1, MAX_PAGE)
        resp.content_type = "application/json"
        resp.data = events_json(await self._jobs.events(job_id, after, limit), after)

    async def _frames(self, job: Job, after: int) -> AsyncGenerator[bytes, None]:
        while not self._feed.stopping:
            try:
                async with aclosing(self._follow(job.id, after)) as followed:
                    async for some in followed:
                        yield some
                return
            except CursorLostError:
                pass
            # The journal does not continue from what the client has: it gets the job as it is, and goes on from there.
            try:
                job = await find(self._jobs, job.id, job.tenant)
            except Problem:
                return
            after = job.seq
            yield reset_frame(Reset(job_json(job)))
            if job.status in TERMINAL:
                return

    async def _follow(self, job: str, after: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._feed.follow(job, after, self._ping_seconds)) as batches:
            async for batch in batches:
                yield batch[0].frame if len(batch) == 1 else b"".join(entry.frame for entry in batch) or PING
                after = batch[-1].seq if batch else after
                if self._feed.is_the_end(job, after):
                    return


class EventStream:
    """The frames of one watcher, until they end or the client goes (the server says nothing when nobody hears them).
    Falcon closes it."""

    def __init__(self, body: Body, frames: AsyncGenerator[bytes, None], first: bytes = RETRY) -> None:
        self._first = first
        self._frames = self._until_left(body, frames)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._frames

    async def close(self) -> None:
        """Leave the feed."""
        await self._frames.aclose()

    async def _until_left(self, body: Body, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        if self._first:
            yield self._first
        leaving = asyncio.ensure_future(body.left())
        try:
            async with aclosing(frames):
                async for some in frames:
                    yield some
                    if leaving.done():
                        return
        finally:
            leaving.cancel()


def put_stream(req: falcon.asgi.Request, resp: falcon.asgi.Response, frames: AsyncGenerator[bytes, None]) -> None:
    """Answer with an event stream of these frames."""
    resp.content_type = "text/event-stream"
    resp.set_header("Cache-Control", "no-store")
    resp.set_header("X-Accel-Buffering", "no")
    resp.stream = EventStream(req.scope["callsheet.body"], frames)  # type: ignore[assignment]  # closed by `close`


def reset_frame(reset: msgspec.Struct) -> bytes:
    """What a watcher gets whose cursor leads nowhere: how things are, and no id."""
    return b"event: reset\ndata: %s\n\n" % msgspec.json.encode(reset)


def _cursor(req: falcon.asgi.Request) -> int:
    """Where the watcher is: what its browser remembers counts more than what the page once asked for."""
    last = req.get_header("Last-Event-ID")
    if last:  # an empty one is that of who has seen nothing
        return checked_number("Last-Event-ID", last.strip(), 0, MAX_SEQ)
    return whole_number(req, "after", 0, 0, MAX_SEQ)
