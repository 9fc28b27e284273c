"""Clearing up an API's own disk. Where files go to a bucket, what an upload leaves lies there, and no host comes by."""

from __future__ import annotations

import asyncio

import structlog

from callsheet.actors.stores.store import ORPHAN_SECONDS, ArtifactStore
from callsheet.actors.stores.uploads import UploadStore

log = structlog.get_logger("api")
SWEEP_SECONDS = 60.0


async def keep_sweeping(store: ArtifactStore, uploads: UploadStore) -> None:
    """Remove, now and then, what has expired and what crashes have left."""
    while True:
        try:
            await asyncio.to_thread(store.sweep, ORPHAN_SECONDS)
            await asyncio.to_thread(uploads.sweep)
        except OSError as error:
            log.warning("files not swept", why=str(error))
        await asyncio.sleep(SWEEP_SECONDS)
