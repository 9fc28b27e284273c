"""Artifacts: the list of a job's, and each as a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.store import ArtifactStore
from callsheet.http.conditions import entity_tags, is_known, wanted_range
from callsheet.http.problems import Problem
from callsheet.http.reach import find, tenant_of
from callsheet.http.represent import artifact_json
from callsheet.http.schemas import ArtifactPage
from callsheet.jobs.job import FileRef

PIECE = 256 * 1024
# Types that a browser may be told. Whatever else a stage publishes is bytes to it: no HTML, no SVG, no scripts.
SAFE = frozenset(
    {
        "application/json",
        "application/pdf",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/x-subrip",
        "application/zip",
        "audio/flac",
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/plain",
        "text/vtt",
        "video/mp4",
        "video/webm",
    }
)


class ArtifactList:
    """`/v1/jobs/{job_id}/artifacts`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """What the job has published so far."""
        job = await find(self._jobs, job_id, tenant_of(req))
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(ArtifactPage([artifact_json(job_id, ref) for ref in job.artifacts]))


class ArtifactFile:
    """`/v1/jobs/{job_id}/artifacts/{name}`."""

    def __init__(self, jobs: Jobs, store: ArtifactStore) -> None:
        self._jobs = jobs
        self._store = store

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str, name: str) -> None:
        """The file, or the range of it that is asked for."""
        job = await find(self._jobs, job_id, tenant_of(req))
        ref = next((ref for ref in job.artifacts if ref.name == name), None)  # a name is looked up, never a path
        if ref is None:
            raise Problem("not_found")
        _check_if_match(req, ref.sha256)
        _put_headers(resp, ref)
        if is_known(req, ref.sha256):
            resp.status = 304
            return
        await self._put_bytes(req, resp, job_id, ref)

    async def _put_bytes(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str, ref: FileRef) -> None:
        path = self._store.path(job_id, ref.folder, ref.name)
        if not await asyncio.to_thread(path.is_file):
            raise Problem("not_found")  # expired a moment ago
        wanted = wanted_range(req, ref.bytes, ref.sha256) if req.method == "GET" else None
        first, last = wanted or (0, ref.bytes - 1)
        if wanted is not None:
            resp.status = 206
            resp.set_header("Content-Range", f"bytes {first}-{last}/{ref.bytes}")
        resp.set_header("Content-Length", str(last - first + 1))
        if req.method == "GET":
            resp.stream = read_pieces(path, first, last)


async def read_pieces(path: Path, first: int, last: int) -> AsyncIterator[bytes]:
    """The bytes from `first` to `last` of a file, read by other threads than the one that serves everybody."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, first)
        left = last - first + 1
        while left > 0 and (piece := await asyncio.to_thread(file.read, min(PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        file.close()


def _check_if_match(req: falcon.asgi.Request, tag: str) -> None:
    header = req.get_header("If-Match")
    if header is not None and not {(False, tag), (False, "*")} & set(entity_tags(header)):
        raise Problem("precondition_failed", "the artifact has another digest")


def _put_headers(resp: falcon.asgi.Response, ref: FileRef) -> None:
    media_type = ref.media_type.partition(";")[0].strip().lower()
    media_type = media_type if media_type in SAFE else "application/octet-stream"
    resp.content_type = f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type
    resp.set_header("ETag", f'"{ref.sha256}"')
    resp.set_header("Accept-Ranges", "bytes")
    resp.set_header("Cache-Control", "private, no-cache")
    resp.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(ref.name, safe='')}")
    resp.set_header("Content-Security-Policy", "sandbox; default-src 'none'")
