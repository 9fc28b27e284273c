"""Taking a submission in by a form: its parts as they come, the file straight to disk."""

from __future__ import annotations

from typing import Any, Protocol

import falcon.asgi

from callsheet.actors.stores.charged import ChargedStore
from callsheet.actors.stores.store import Upload
from callsheet.config.settings import Settings
from callsheet.http.body import MAX_JSON, parse_json
from callsheet.http.fields import Fields, not_a_part
from callsheet.http.form import Part, parts
from callsheet.http.problems import Problem
from callsheet.http.threads import unbroken
from callsheet.http.uploads.reception import BATCH, check_room
from callsheet.jobs.job import InputRef
from callsheet.jobs.messages import Submit

MAX_OVERHEAD = 256 * 1024  # of a form around its file
PARTS = ("pipeline", "file", "params", "callback_url", "callback_secret")


class Intake(Protocol):
    """One submission in the making, by whatever way its input comes. Discard it at the end, whatever became of it."""

    async def read(self, req: falcon.asgi.Request, job: str, tenant: str) -> Submit:
        """What the request asks for; refused as soon as it is clear that it must be. Raises Problem."""

    async def keep(self, submission: Submit) -> Submit | None:
        """Make the input that of the job; None if the job has another one. The submission, its input described."""

    async def taken(self) -> None:
        """The job will have it: what it came by is not needed any more."""

    async def discard(self) -> None:
        """Let go of everything that was not kept."""


class FormIntake:
    """A submission whose file is in the request itself."""

    def __init__(self, settings: Settings, store: ChargedStore, fields: Fields) -> None:
        self._settings = settings
        self._store = store
        self._fields = fields
        self._seen: set[str] = set()
        self._file: InputRef | None = None
        self._upload: Upload | None = None
        self._tenant = ""

    async def read(self, req: falcon.asgi.Request, job: str, tenant: str) -> Submit:
        """See Intake."""
        self._tenant = tenant
        self._check_room(req.content_length or 0)
        async for part in parts(req):
            await self._take(part)
        if "pipeline" not in self._seen:
            raise Problem("missing_part", "a submission names its 'pipeline'")
        if self._file is None:
            raise Problem("missing_part", "a submission by form has a 'file'")
        file = self._file
        identity = (file.sha256, file.bytes, file.filename, file.media_type)
        return self._fields.submission(job, tenant, file, identity)

    async def keep(self, submission: Submit) -> Submit | None:
        """See Intake."""
        kept = self._upload is not None and await unbroken(self._store.accept_input, submission.job, self._upload)
        return submission if kept else None

    async def taken(self) -> None:
        """See Intake."""

    async def discard(self) -> None:
        """See Intake."""
        if self._upload is not None:
            await unbroken(self._upload.discard)

    async def _take(self, part: Part) -> None:
        if part.name in self._seen:
            raise Problem("duplicate_part", f"{part.name!r} comes twice")
        self._seen.add(part.name)
        match part.name:
            case "pipeline":
                self._fields.choose(await part.text(200))
            case "params":
                self._fields.give(params_object(await part.text(MAX_JSON)))
            case "file":
                await self._receive(part)
            case "callback_url":
                self._fields.call_back(await part.text(4096))
            case "callback_secret":
                self._fields.sign_with(await part.text(200))
            case name:
                raise Problem("unexpected_part", not_a_part(name, PARTS))

    async def _receive(self, part: Part) -> None:
        self._fields.check()  # if they came first, a mistake in them need not wait for the file
        self._upload = upload = await unbroken(self._store.new_upload, self._tenant)
        batch, waiting = list[bytes](), 0
        async for piece in part.pieces():
            waiting += len(piece)
            if upload.bytes + waiting > self._settings.max_upload_bytes:
                raise Problem("upload_too_large", f"at most {int(self._settings.max_upload_bytes)} bytes")
            batch.append(piece)
            if waiting >= BATCH:
                self._check_room(waiting)
                await self._write(upload, b"".join(batch))
                batch, waiting = [], 0
        await self._write(upload, b"".join(batch))
        if upload.bytes == 0:
            raise Problem("empty_file")
        self._file = InputRef(part.filename, upload.bytes, upload.sha256, part.media_type)

    async def _write(self, upload: Upload, piece: bytes) -> None:
        if upload.bytes == 0:
            self._fields.look(piece)
        await unbroken(upload.write, piece)

    def _check_room(self, coming: int) -> None:
        if coming > self._settings.max_upload_bytes + MAX_OVERHEAD:
            raise Problem("upload_too_large", f"at most {int(self._settings.max_upload_bytes)} bytes")
        check_room(self._settings, coming)


def params_object(text: str) -> dict[str, Any]:
    """The JSON object in a part. Raises Problem."""
    try:
        value = parse_json(text.encode()) if text.strip() else {}
    except Problem as problem:
        raise Problem(problem.code, f"params: {problem.detail}") from None
    if not isinstance(value, dict):
        raise Problem("invalid_params", "an object is expected")
    return value
