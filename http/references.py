"""Taking a submission in by JSON: its input lies here already, as a finished upload, or somewhere under an address."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import unquote, urlsplit

import falcon.asgi
from msgspec.structs import replace

from callsheet.actors.errors import CallsheetError
from callsheet.actors.stages.sources import why_forbidden, with_fetch
from callsheet.actors.stores.media_types import BYTES
from callsheet.actors.stores.store import ArtifactStore
from callsheet.actors.stores.uploads import HeldUpload
from callsheet.config.settings import Settings
from callsheet.http.body import read_json
from callsheet.http.fields import Fields, not_a_part
from callsheet.http.form import clean_filename
from callsheet.http.problems import Problem
from callsheet.http.threads import unbroken
from callsheet.http.uploads.reception import BATCH
from callsheet.http.uploads.resources import Uploads
from callsheet.jobs.job import InputRef
from callsheet.jobs.messages import Submit

MEMBERS = ("pipeline", "params", "upload", "source_url", "callback_url", "callback_secret")


class ReferenceIntake:
    """A submission that names its input. See Intake."""

    def __init__(self, settings: Settings, store: ArtifactStore, fields: Fields, uploads: Uploads) -> None:
        self._settings = settings
        self._store = store
        self._fields = fields
        self._uploads = uploads
        self._upload: str | None = None
        self._tenant = ""
        self._held: HeldUpload | None = None
        self._lent = False

    async def read(self, req: falcon.asgi.Request, job: str, tenant: str) -> Submit:
        """See Intake. An upload is not looked at yet: under a known idempotency key it may be gone."""
        members = await read_json(req)
        if unknown := sorted(members.keys() - MEMBERS):
            raise Problem("unexpected_part", not_a_part(unknown[0], MEMBERS))
        self._take(members)
        upload, url = _text(members, "upload"), _text(members, "source_url")
        if (upload is None) == (url is None):
            raise Problem("missing_part", "a submission in JSON has either 'upload' or 'source_url'")
        if url is not None:
            return self._by_address(job, tenant, url)
        self._tenant, self._upload = tenant, (upload or "").rpartition("/")[2]  # its address is as good as its id
        return self._fields.submission(job, tenant, InputRef("file", 0, "", BYTES), ("upload", self._upload))

    async def keep(self, submission: Submit) -> Submit | None:
        """See Intake. Raises UploadUnknown, UploadLocked, Problem."""
        if self._upload is None:
            return submission
        held = self._held = await self._uploads.hold(self._tenant, self._upload)
        if held.offset != held.info.length:
            raise Problem("upload_incomplete", offset=held.offset, length=held.info.length)
        if held.offset == 0:
            raise Problem("empty_file")
        upload = await unbroken(held.as_input)
        self._fields.look(await unbroken(upload.head, BATCH))
        upload.claim = self._uploads.claim(self._tenant, self._upload, upload.bytes)
        if not await unbroken(self._store.accept_input, submission.job, upload):
            return None
        self._lent = True
        file = InputRef(held.info.filename, upload.bytes, upload.sha256, held.info.media_type)
        return replace(submission, input=file)

    async def taken(self) -> None:
        """See Intake. The upload has become the job's input (its bytes are not copied), now or before a crash."""
        self._lent = False
        if self._held is not None:
            await unbroken(self._held.remove)
        elif self._upload is not None:
            await self._uploads.forget(self._tenant, self._upload)

    async def discard(self) -> None:
        """See Intake. An upload that was to be the input of a job that did not come about is counted again."""
        if self._lent and self._held is not None and self._upload is not None:
            with contextlib.suppress(CallsheetError):
                await self._uploads.reserve(self._tenant, self._upload, self._held.offset)
        if self._held is not None:
            await unbroken(self._held.close)

    def _take(self, members: dict[str, Any]) -> None:
        if (pipeline := _text(members, "pipeline")) is not None:
            self._fields.choose(pipeline)
        params = members.get("params")
        if not isinstance(params, dict | None):
            raise Problem("invalid_params", "an object is expected")
        self._fields.give(params or {})
        self._fields.call_back(_text(members, "callback_url") or "")
        self._fields.sign_with(_text(members, "callback_secret") or "")

    def _by_address(self, job: str, tenant: str, url: str) -> Submit:
        if (why := why_forbidden(url, self._settings.allowed_addresses)) is not None:
            raise Problem("url_forbidden", why)
        graph = with_fetch(self._fields.graph)
        if graph is None:
            raise Problem("source_unsupported", "it has a stage 'fetch' of its own, or too many")
        name = clean_filename(unquote(urlsplit(url).path, errors="replace"))
        file = InputRef(name, 0, "", BYTES, source_url=url)
        return self._fields.submission(job, tenant, file, ("source_url", url), graph)


def _text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise Problem("invalid_field", f"/{name} is a text")
    return value
