"""Whether the process lives, and whether the service can be used."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import falcon.asgi
import msgspec
import structlog

from callsheet import __version__
from callsheet.actors.client import Jobs
from callsheet.actors.errors import StoreAway, Unavailable
from callsheet.actors.stores.store import ArtifactStore
from callsheet.http.problems import Problem
from callsheet.http.schemas import Doors

log = structlog.get_logger("api")
PATIENCE_SECONDS = 2.0
FRESH_SECONDS = 5.0  # that a look at the store holds
_DOORS = msgspec.json.encode(
    Doors(
        service="callsheet",
        version=__version__,
        jobs="/v1/jobs",
        pipelines="/v1/pipelines",
        health="/healthz",
        readiness="/readyz",
        docs="/docs",
        forms="/try",
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

    def __init__(self, jobs: Jobs, store: ArtifactStore, data: Path) -> None:
        self._jobs = jobs
        self._store = store
        self._data = data
        self._look: asyncio.Task[None] | None = None
        self._looked = 0.0

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Yes, or what is missing."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._jobs.ping()
                writable = await asyncio.to_thread(os.access, self._data, os.W_OK | os.X_OK)
                await self._look_at_store()
        except StoreAway:  # what it says is not for everybody
            raise Problem("not_ready", "the files cannot be reached") from None
        except (Unavailable, TimeoutError) as error:
            raise Problem("not_ready", str(error) or "the journal or the store of files does not answer") from None
        if not writable:
            raise Problem("not_ready", "the folder for files is not writable")
        resp.media = {"status": "ready"}

    async def _look_at_store(self) -> None:
        """One look at a time, however many ask and however long it takes, and none while the last one is fresh: in a
        bucket each costs a request. Raises StoreAway."""
        now = asyncio.get_running_loop().time()
        if self._look is None or (self._look.done() and now > self._looked + FRESH_SECONDS):
            self._looked = now
            self._look = asyncio.create_task(asyncio.to_thread(self._store.check))
            self._look.add_done_callback(_tell_operator)
        await asyncio.shield(self._look)


def _tell_operator(look: asyncio.Task[None]) -> None:
    if not look.cancelled() and (error := look.exception()) is not None:
        log.warning("the store does not answer", why=str(error))


class Index:
    """`/`: where to go from here."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The doors."""
        resp.content_type = "application/json"
        resp.data = _DOORS
