"""Taking a submission in: the parts of the form as they come, the file straight to disk."""

from __future__ import annotations

import hashlib
import shutil
from typing import Any

import falcon.asgi
import msgspec

from callsheet.actors.pipelines import Pipelines
from callsheet.actors.store import ArtifactStore, Upload
from callsheet.config.settings import Settings
from callsheet.http.body import MAX_JSON, parse_json
from callsheet.http.form import Part, parts
from callsheet.http.problems import Problem
from callsheet.http.threads import unbroken
from callsheet.jobs.job import InputRef
from callsheet.jobs.messages import Submit
from callsheet.pipelines.declare import Pipeline

MAX_OVERHEAD = 256 * 1024  # of a form around its file
BATCH = 1024 * 1024  # bytes written at once, by another thread


class Intake:
    """One submission in the making. Discard it at the end, whatever became of it."""

    def __init__(self, settings: Settings, store: ArtifactStore, pipelines: Pipelines) -> None:
        self._settings = settings
        self._store = store
        self._pipelines = pipelines
        self._seen: set[str] = set()
        self._pipeline: Pipeline | None = None
        self._given: dict[str, Any] | None = None
        self._params: dict[str, Any] = {}
        self._file: InputRef | None = None
        self._upload: Upload | None = None

    async def read(self, req: falcon.asgi.Request, job: str, tenant: str) -> Submit:
        """The submission that the form holds; refused as soon as it is clear that it must be. Raises Problem."""
        self._check_room(req.content_length or 0)
        async for part in parts(req):
            await self._take(part)
        if self._pipeline is None or self._file is None:
            raise Problem("missing_part", "a submission has the parts 'pipeline' and 'file'")
        self._check_params()
        return Submit(
            job=job,
            tenant=tenant,
            pipeline=self._pipeline.name,
            params=self._params,
            graph=self._pipeline.specs,
            input=self._file,
            fingerprint=fingerprint(self._pipeline.name, self._params, self._file),
        )

    async def discard(self) -> None:
        """Remove the upload, unless it was accepted."""
        if self._upload is not None:
            await unbroken(self._upload.discard)

    async def keep(self, job: str) -> bool:
        """Make the upload the input of the job; False if the job has another one."""
        return self._upload is not None and await unbroken(self._store.accept_input, job, self._upload)

    async def _take(self, part: Part) -> None:
        if part.name in self._seen:
            raise Problem("duplicate_part", f"{part.name!r} comes twice")
        self._seen.add(part.name)
        match part.name:
            case "pipeline":
                self._pipeline = pipeline_named(self._pipelines, await part.text(200))
            case "params":
                self._given = params_object(await part.text(MAX_JSON))
            case "file":
                await self._receive(part)
            case "callback_url":
                if await part.text(4096):
                    raise Problem("callback_unsupported", "watch the job's events instead")
            case name:
                raise Problem("unexpected_part", f"{name[:100]!r} is not a part of a submission")

    async def _receive(self, part: Part) -> None:
        self._check_params()  # if they came first, a mistake in them need not wait for the file
        self._upload = upload = await unbroken(self._store.new_upload)
        batch, waiting = list[bytes](), 0
        async for piece in part.pieces():
            waiting += len(piece)
            if upload.bytes + waiting > self._settings.max_upload_bytes:
                raise Problem("upload_too_large", f"at most {int(self._settings.max_upload_bytes)} bytes")
            batch.append(piece)
            if waiting >= BATCH:
                self._check_room(waiting)
                await unbroken(upload.write, b"".join(batch))
                batch, waiting = [], 0
        await unbroken(upload.write, b"".join(batch))
        if upload.bytes == 0:
            raise Problem("empty_file")
        self._file = InputRef(part.filename, upload.bytes, upload.sha256, part.media_type)

    def _check_params(self) -> None:
        if self._pipeline is not None:
            self._params = checked_params(self._pipeline, self._given or {})

    def _check_room(self, coming: int) -> None:
        if coming > self._settings.max_upload_bytes + MAX_OVERHEAD:
            raise Problem("upload_too_large", f"at most {int(self._settings.max_upload_bytes)} bytes")
        if shutil.disk_usage(self._settings.data).free - coming < self._settings.min_free_bytes:
            raise Problem("storage_full")


def pipeline_named(pipelines: Pipelines, name: str) -> Pipeline:
    """The pipeline of that name. Raises Problem."""
    if (pipeline := pipelines.get(name.strip())) is None:
        raise Problem("unknown_pipeline", f"there are: {', '.join(pipelines)}")
    return pipeline


def params_object(text: str) -> dict[str, Any]:
    """The JSON object in a part. Raises Problem."""
    value = parse_json(text.encode()) if text.strip() else {}
    if not isinstance(value, dict):
        raise Problem("invalid_params", "an object is expected")
    return value


def checked_params(pipeline: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the pipeline takes them, every default filled in. Raises Problem."""
    known = {field.encode_name for field in msgspec.structs.fields(pipeline.params)}
    if unknown := sorted(given.keys() - known):
        raise Problem("invalid_params", f"there is no such parameter: /{unknown[0][:100]}")
    try:
        params: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, pipeline.params, strict=True))
    except msgspec.ValidationError as error:
        raise Problem("invalid_params", _with_pointer(str(error))) from None
    return params


def _with_pointer(text: str) -> str:
    """`Expected int - at `$.a[0]`` with the place as a JSON pointer: `Expected int: /a/0`."""
    what, _, where = text.partition(" - at `$")
    pointer = where.rstrip("`").replace("[", ".").replace("]", "").replace(".", "/")
    return f"{what}: {pointer}" if pointer else what


def fingerprint(pipeline: str, params: dict[str, Any], file: InputRef) -> str:
    """What tells one submission from another under the same idempotency key."""
    content = (pipeline, params, file.sha256, file.bytes, file.filename, file.media_type)
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
