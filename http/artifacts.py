"""Artifacts: the list of a job's, each as a file, and all of them as a ZIP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple, cast

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.stores.media_types import SHOWN, bare_type, content_type, disposition
from callsheet.actors.stores.store import ArtifactStore, Remote
from callsheet.http.archive import Entry, entries, zipped
from callsheet.http.conditions import is_known, refuse_moved, refuse_other_version, wanted_range, whole_number
from callsheet.http.pieces import Pieces, opened
from callsheet.http.problems import Problem
from callsheet.http.reach import find, tenant_of
from callsheet.http.represent import artifact_json
from callsheet.http.schemas import ArtifactPage
from callsheet.jobs.job import FileRef, Job

HARMLESS = "sandbox; default-src 'none'"
# A browser that shows a picture or a film by itself makes a page around it, which may load exactly that.
PREVIEW = f"{HARMLESS}; img-src 'self'; media-src 'self'"


class Published(NamedTuple):
    """An artifact, and when its stage succeeded."""

    file: FileRef
    at: datetime


class ArtifactList:
    """`/v1/jobs/{job_id}/artifacts`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """What the job has published so far."""
        job = await find(self._jobs, job_id, tenant_of(req))
        refuse_moved(req, job.seq)
        _put_validators(resp, f'"{job.seq}"')
        if is_known(req, str(job.seq)):
            resp.status = 304
            return
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(ArtifactPage([artifact_json(job_id, ref) for ref in job.artifacts]))


class ArtifactFile:
    """`/v1/jobs/{job_id}/artifacts/{name}`. With `presigned_seconds`, and a store that is elsewhere, clients are sent
    there, with an address that holds that long."""

    def __init__(self, jobs: Jobs, store: ArtifactStore, presigned_seconds: float = 0.0) -> None:
        self._jobs = jobs
        self._store = store
        self._presigned_seconds = presigned_seconds

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str, name: str) -> None:
        """The file, or the range of it that is asked for."""
        job = await find(self._jobs, job_id, tenant_of(req))
        found = next((p for p in published(job) if p.file.name == name), None)  # a name is looked up, never a path
        if found is None:
            raise Problem("not_found")
        file, at = found
        refuse_other_version(req, file.sha256, at)
        from_here = whole_number(req, "inline", 0, 0, 1) == 1  # whether it may be shown or not: a page may ask no other
        tag = f'"{file.sha256}"'
        if is_known(req, file.sha256, at):
            resp.status = 304
            resp.set_header("ETag", tag)
            return
        _put_headers(resp, file, inline=from_here and bare_type(file.media_type) in SHOWN)
        _put_validators(resp, tag, at)
        if req.method == "GET" and not from_here and (url := await self._elsewhere(job_id, file)):
            _send_there(resp, url)
        else:
            await self._put_bytes(req, resp, job_id, file)

    async def _elsewhere(self, job_id: str, file: FileRef) -> str | None:
        if not self._presigned_seconds:
            return None
        place = await asyncio.to_thread(self._store.locate, job_id, file, self._presigned_seconds)
        return place.url if isinstance(place, Remote) else None

    async def _put_bytes(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str, file: FileRef
    ) -> None:
        wanted = wanted_range(req, file.bytes, file.sha256) if req.method == "GET" else None
        first, last = wanted or (0, file.bytes - 1)
        # For HEAD a byte is enough to know that the file is there: it has exactly the headers of GET.
        length = last - first + 1 if req.method == "GET" else min(1, file.bytes)
        pieces = await opened(self._store.read(job_id, file, first, length), req)
        if wanted is not None:
            resp.status = 206
            resp.set_header("Content-Range", f"bytes {first}-{last}/{file.bytes}")
        resp.set_header("Content-Length", str(last - first + 1))
        await put_pieces(req, resp, pieces)


class ArtifactZip:
    """`/v1/jobs/{job_id}/artifacts.zip`."""

    def __init__(self, jobs: Jobs, store: ArtifactStore) -> None:
        self._jobs = jobs
        self._store = store

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """Everything that the job has published so far, packed while it is sent."""
        job = await find(self._jobs, job_id, tenant_of(req))
        packed = entries(published(job))
        tag = _tag_of(packed)
        # Weak: the same files, but another version of the library may pack them into other bytes.
        _put_validators(resp, f'W/"{tag}"')
        if is_known(req, tag):
            resp.status = 304
            return
        resp.content_type = "application/zip"
        resp.set_header("Content-Disposition", disposition(f"{job_id}.zip"))
        resp.set_header("Content-Security-Policy", HARMLESS)
        zipping = zipped(packed, lambda file: self._store.read(job_id, file))
        await put_pieces(req, resp, await opened(zipping, req))


def published(job: Job) -> Iterator[Published]:
    """The artifacts of a job, in the order of the list."""
    for stage in job.stages.values():
        if stage.status == "succeeded":
            at = datetime.fromisoformat(stage.ended_at or job.created_at)
            yield from (Published(file, at) for file in stage.outputs if file.artifact)


async def put_pieces(req: falcon.asgi.Request, resp: falcon.asgi.Response, pieces: Pieces) -> None:
    """Have the pieces sent, or dropped when only the headers are wanted."""
    resp.stream = cast(AsyncIterator[bytes], pieces)  # Falcon needs `__aiter__` and `close` alone
    if req.method != "GET":
        await pieces.close()


def _put_headers(resp: falcon.asgi.Response, file: FileRef, *, inline: bool) -> None:
    resp.content_type = content_type(file.media_type)
    resp.set_header("Accept-Ranges", "bytes")
    resp.set_header("Content-Disposition", disposition(file.name, "inline" if inline else "attachment"))
    resp.set_header("Content-Security-Policy", PREVIEW if inline else HARMLESS)


def _put_validators(resp: falcon.asgi.Response, tag: str, at: datetime | None = None) -> None:
    """Kept by the client alone, and asked about each time: a retry may publish another file under the name."""
    resp.set_header("ETag", tag)
    if at is not None:  # never later than the answer's own Date, though another machine's clock wrote it
        resp.set_header("Last-Modified", format_datetime(min(at, datetime.now(UTC)), usegmt=True))


def _send_there(resp: falcon.asgi.Response, url: str) -> None:
    """The store tells the type and the name itself: they were stored with the file."""
    resp.status = 307
    resp.content_type = None
    resp.set_header("Location", url)
    resp.set_header("Cache-Control", "no-store")
    for name in ("Accept-Ranges", "Content-Disposition", "ETag", "Last-Modified"):
        resp.delete_header(name)


def _tag_of(packed: list[Entry]) -> str:
    return hashlib.sha256(msgspec.json.encode([(e.name, e.at.timestamp(), e.file.sha256) for e in packed])).hexdigest()
