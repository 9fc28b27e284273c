"""`/v1/uploads/{upload_id}`: files that come in pieces, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import falcon.asgi

from callsheet.actors.stores.uploads import (
    HeldUpload,
    UploadInfo,
    UploadLocked,
    UploadState,
    UploadStore,
    UploadUnknown,
)
from callsheet.actors.tenants.quota import Claim, Ledger
from callsheet.config.settings import Settings
from callsheet.http.problems import Problem
from callsheet.http.reach import tenant_of
from callsheet.http.threads import unbroken
from callsheet.http.uploads import tus
from callsheet.http.uploads.reception import Reception, behind, check_room

PATIENCE_SECONDS = 2.0  # for whoever holds an upload: longer than a silence after which it is let go
LOOK_SECONDS = 0.05
RESERVED_LONGER = 60.0  # than the upload is kept


class Uploads:
    """Takes uploads in, for one tenant at a time, within what it may store."""

    def __init__(self, settings: Settings, store: UploadStore, ledger: Ledger) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger

    async def create(self, tenant: str, upload: str, info: UploadInfo) -> bool:
        """Begin an upload; False if there is one of this id. Raises Problem, StorageFull, QuotaExceeded."""
        self._check_length(info.length or 0)
        check_room(self._settings, info.length or 0)
        await self.reserve(tenant, upload, info.length or 0)
        try:
            return await unbroken(self._store.create, tenant, upload, info)
        except Exception:
            await self._release(tenant, upload)
            raise

    async def look(self, tenant: str, upload: str) -> UploadState:
        """How far it is. Raises UploadUnknown."""
        return await unbroken(self._store.look, tenant, upload)

    async def hold(self, tenant: str, upload: str) -> HeldUpload:
        """Take hold of it, after a moment's wait for whoever has it. Close it. Raises UploadUnknown, UploadLocked."""
        latest = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            try:
                return await unbroken(self._store.hold, tenant, upload)
            except UploadLocked:
                if asyncio.get_running_loop().time() > latest:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def receive(self, req: falcon.asgi.Request, tenant: str, upload: str, offset: int | None) -> UploadState:
        """Take the body of a request in, as what follows `offset`; None: as the beginning of an upload of which some
        may be there already. Raises Problem."""
        checksum, length = tus.checksum(req), tus.number(req, "Upload-Length")
        held = await self.hold(tenant, upload)
        try:
            if offset is not None and offset != held.offset:
                raise Problem("offset_mismatch", headers={"Upload-Offset": str(held.offset)})
            await self._declare(held, length)
            start = offset or 0
            most = (self._most if held.info.length is None else held.info.length) - start
            if (req.content_length or 0) > most:
                raise Problem("upload_too_large", "more bytes than the upload is long")
            coming = max(held.offset, start + (most if req.content_length is None else req.content_length))
            length = coming if held.info.length is None else held.info.length
            reserve = partial(self.reserve, tenant, upload, length)
            await reserve()
            reception = Reception(self._settings, held, start + most - held.offset, reserve)
            if held.offset == start and checksum:
                await reception.take_checked(req.stream, *checksum)
            else:  # what is compared needs no checksum: it was checked when it came
                await reception.take(behind(req.stream, held, held.offset - start))
            return await unbroken(lambda: held.state)
        finally:
            await unbroken(held.close)

    async def forget(self, tenant: str, upload: str) -> None:
        """Have it no more, if it is there and nobody else is at it."""
        with contextlib.suppress(UploadUnknown, UploadLocked):
            held = await unbroken(self._store.hold, tenant, upload)
            try:
                await self.remove(tenant, held, upload)
            finally:
                await unbroken(held.close)

    async def remove(self, tenant: str, held: HeldUpload, upload: str) -> None:
        """Have it no more, and what it has reserved."""
        await unbroken(held.remove)
        await self._release(tenant, upload)

    async def _release(self, tenant: str, upload: str) -> None:
        await unbroken(self._ledger.release, tenant, holder(upload))

    def claim(self, tenant: str, upload: str, count: int) -> Claim:
        """What it has reserved, for the store that makes it a job's input."""
        return self._ledger.claim(tenant, holder(upload), count)

    @property
    def _most(self) -> int:
        return int(self._settings.max_upload_bytes)

    def _check_length(self, length: int) -> None:
        if length > self._most:
            raise Problem("upload_too_large", f"at most {self._most} bytes")

    async def _declare(self, held: HeldUpload, length: int | None) -> None:
        if length is None or length == held.info.length:
            return
        if held.info.length is not None or length < held.offset:
            raise Problem("invalid_parameter", "Upload-Length cannot be changed, nor be less than has come")
        self._check_length(length)
        await unbroken(held.declare, length)

    async def reserve(self, tenant: str, upload: str, count: int) -> None:
        """Count it against what the tenant may store; one byte at least, since how many there are has a bound, too."""
        seconds = self._settings.upload_keep_seconds + RESERVED_LONGER
        await unbroken(self._ledger.reserve, tenant, holder(upload), max(1, count), seconds)


def holder(upload: str) -> str:
    """What an upload is called in the ledger."""
    return f"upload/{upload}"


class OneUpload:
    """`/v1/uploads/{upload_id}`."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def on_options(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, upload_id: str) -> None:  # noqa: ARG002
        """What this server can do is in the headers."""
        resp.status = 204
        resp.set_header("Allow", "DELETE, HEAD, OPTIONS, PATCH")

    async def on_head(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, upload_id: str) -> None:
        """Where to go on."""
        state = await self._uploads.look(tenant_of(req), upload_id)
        tus.put_state(resp, state)
        if state.info.length is None:
            resp.set_header("Upload-Defer-Length", "1")
        else:
            resp.set_header("Upload-Length", str(state.info.length))
        if state.info.metadata:
            resp.set_header("Upload-Metadata", state.info.metadata)

    async def on_patch(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, upload_id: str) -> None:
        """Go on."""
        if (offset := tus.number(req, "Upload-Offset")) is None:
            raise Problem("invalid_parameter", "send Upload-Offset")
        if not tus.has_bytes(req):
            raise Problem("unsupported_media_type", f"bytes come as {tus.BODY_TYPE}")
        tus.put_state(resp, await self._uploads.receive(req, tenant_of(req), upload_id, offset))
        resp.status = 204

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, upload_id: str) -> None:
        """Give it up."""
        tenant = tenant_of(req)
        held = await self._uploads.hold(tenant, upload_id)
        try:
            await self._uploads.remove(tenant, held, upload_id)
        finally:
            await unbroken(held.close)
        resp.status = 204
