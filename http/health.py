"""Whether the process lives, and whether the service can be used."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import falcon.asgi
import msgspec

from callsheet import __version__
from callsheet.actors.client import Jobs
from callsheet.actors.errors import Unavailable
from callsheet.http.problems import Problem
from callsheet.http.schemas import Doors

_DOORS = msgspec.json.encode(
    Doors(
        service="callsheet",
        version=__version__,
        jobs="/v1/jobs",
        pipelines="/v1/pipelines",
        health="/healthz",
        readiness="/readyz",
        docs="/docs",
        openapi="/openapi.json",
        asyncapi="/asyncapi.json",
    )
)


class Alive:
    """`/healthz`: the process answers."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Yes."""
        resp.media = {"status": "ok"}


class Ready:
    """`/readyz`: the journal answers, every partition has an owner that can write to it, and files can be kept.

    Neither a full disk nor a missing worker makes it unready: jobs can be read, watched and forgotten all the same, and
    whoever takes the service away from its clients for that takes away the remedy. `/metrics` and the doctor tell.
    """

    def __init__(self, jobs: Jobs, data: Path) -> None:
        self._jobs = jobs
        self._data = data

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Yes, or what is missing."""
        try:
            async with asyncio.timeout(2.0):
                await self._jobs.ping()
                writable = await asyncio.to_thread(os.access, self._data, os.W_OK | os.X_OK)
        except (Unavailable, TimeoutError) as error:
            raise Problem("not_ready", str(error) or "the journal or the file system does not answer") from None
        if not writable:
            raise Problem("not_ready", "the folder for files is not writable")
        resp.media = {"status": "ready"}


class Index:
    """`/`: where to go from here."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The doors."""
        resp.content_type = "application/json"
        resp.data = _DOORS
