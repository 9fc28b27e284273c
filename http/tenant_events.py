"""All events of all jobs of a tenant: as Server-Sent Events for dashboards, and page by page as JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import falcon.asgi

from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.feeds.job_feed import CursorLostError
from callsheet.actors.feeds.tenant_feed import TenantFeed
from callsheet.actors.feeds.tenant_log import MAX_READ, Cursor, cursor_text, read_cursor
from callsheet.http.conditions import wants_stream, whole_number
from callsheet.http.events import PING, put_stream, reset_frame
from callsheet.http.jobs import cursor_of
from callsheet.http.problems import Problem
from callsheet.http.reach import tenant_of
from callsheet.http.represent import job_json
from callsheet.http.schemas import TenantReset

SHOWN = 50  # jobs that a reset shows, the newest


class TenantEvents:
    """`/v1/events`."""

    def __init__(self, jobs: Jobs, feed: TenantFeed, ping_seconds: float) -> None:
        self._jobs = jobs
        self._feed = feed
        self._ping_seconds = ping_seconds

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """A page of events, or the live feed for who asks for an event stream."""
        resp.append_header("Vary", "Accept")
        if wants_stream(req):
            after = _cursor(req.get_header("Last-Event-ID") or req.get_param("after"))
            if req.method == "GET":
                await self._feed.start(tenant_of(req))  # if the journal is away, say so now
            put_stream(req, resp, self._frames(tenant_of(req), after))
        else:
            await self._history(req, resp)

    async def _history(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        limit = whole_number(req, "limit", 100, 1, MAX_READ)
        try:
            entries, cursor = await self._feed.history(tenant_of(req), _cursor(req.get_param("after")), limit)
        except CursorLostError:
            raise Problem("cursor_lost", "read the jobs, then go on without 'after'") from None
        resp.content_type = "application/json"
        told = b",".join(entry.raw for entry in entries)
        resp.data = b'{"events":[%s],"next_after":"%s"}' % (told, cursor_text(cursor).encode())

    async def _frames(self, tenant: str, after: Cursor | None) -> AsyncGenerator[bytes, None]:
        """Who comes without a cursor, or with one that leads nowhere, gets the jobs as they are, and goes on there."""
        while not self._feed.stopping:
            if after is None:
                try:
                    after = await self._feed.start(tenant)  # before the jobs are read: nothing is missed in between
                    yield await self._reset(tenant, after)
                except CallsheetError:
                    return  # the journal is away; the client comes back
            try:
                async with aclosing(self._feed.follow(tenant, after, self._ping_seconds)) as batches:
                    async for batch in batches:
                        yield b"".join(entry.frame for entry in batch) or PING
            except CursorLostError:
                after = None

    async def _reset(self, tenant: str, after: Cursor) -> bytes:
        page, following = await self._jobs.jobs(tenant, SHOWN)
        jobs = [job_json(job) for job in page if job.status != "expired"]
        return reset_frame(TenantReset(jobs=jobs, next=cursor_of(following), after=cursor_text(after)))


def _cursor(text: str | None) -> Cursor | None:
    try:
        return read_cursor(text) if text is not None else None
    except ValueError:
        raise Problem("invalid_cursor") from None
