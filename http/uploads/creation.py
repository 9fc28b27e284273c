"""`POST /v1/uploads`: an upload begins, once for each idempotency key.

The draft's "result of the first request" is the upload itself: repeated under its key, a creation answers with the
same one, however far it is by now. Bytes that the request brings are compared with those that are there already, and
what is missing of them is added, so that a creation which broke off in the middle can simply be sent again.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import falcon.asgi
import msgspec

from callsheet.actors.errors import CallsheetError
from callsheet.actors.stores.upload_keys import Begun, UploadKeys
from callsheet.actors.stores.uploads import UploadInfo, UploadUnknown, new_upload_id
from callsheet.http.conditions import idempotency_key
from callsheet.http.problems import Problem
from callsheet.http.reach import tenant_of
from callsheet.http.uploads import tus
from callsheet.http.uploads.resources import Uploads

OVERTAKEN = frozenset({"offset_mismatch", "upload_locked"})


class Creation(NamedTuple):
    """One request for a new upload."""

    tenant: str
    info: UploadInfo
    key: str | None
    fingerprint: str


class UploadList:
    """`/v1/uploads`."""

    def __init__(self, uploads: Uploads, keys: UploadKeys) -> None:
        self._uploads = uploads
        self._keys = keys

    async def on_options(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """What this server can do is in the headers."""
        resp.status = 204
        resp.set_header("Allow", "OPTIONS, POST")

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Begin an upload, with its first bytes if there are any."""
        asked = _asked(req)
        begun = await self._begun(asked)
        fresh = await self._create(asked, begun)
        tenant, upload = asked.tenant, begun.upload
        try:
            if tus.has_bytes(req):
                state = await self._uploads.receive(req, tenant, upload, None if asked.key else 0)
            else:
                state = await self._uploads.look(tenant, upload)
        except UploadUnknown:
            raise Problem("upload_gone") from None
        except BaseException as error:
            if asked.key is None or (fresh and _is_final(error)):  # nobody could ever come back to it
                await self._uploads.forget(tenant, upload)
            raise
        if asked.key is not None:
            await self._keys.told(tenant, asked.key, begun)
        resp.status = 201
        resp.set_header("Location", f"{tus.PATH}/{upload}")
        tus.put_state(resp, state)

    async def _begun(self, asked: Creation) -> Begun:
        """The upload that this request means: a new one, or its key's. Raises Problem."""
        if asked.key is None:
            return Begun(new_upload_id(), asked.fingerprint)
        begun = await self._keys.claim(asked.tenant, asked.key, asked.fingerprint)
        if begun.fingerprint != asked.fingerprint:
            raise Problem("idempotency_key_reused")
        return begun

    async def _create(self, asked: Creation, begun: Begun) -> bool:
        """Have it there; whether this request has made it. Raises Problem."""
        if asked.key is not None:
            try:
                await self._uploads.look(asked.tenant, begun.upload)
            except UploadUnknown:
                if begun.told:
                    raise Problem("upload_gone") from None
            else:
                return False
        return await self._uploads.create(asked.tenant, begun.upload, asked.info)


def _asked(req: falcon.asgi.Request) -> Creation:
    info, brings = tus.new_upload(req), tus.has_bytes(req)
    if not brings and (req.content_length or 0) > 0:
        raise Problem("unsupported_media_type", f"bytes come as {tus.BODY_TYPE}")
    said = (info.length, info.metadata, brings, req.content_length or 0, req.get_header("Upload-Checksum"))
    fingerprint = hashlib.sha256(msgspec.json.encode(said)).hexdigest()
    return Creation(tenant_of(req), info, idempotency_key(req), fingerprint)


def _is_final(error: BaseException) -> bool:
    """Whether a creation under a key is refused, and not broken off or overtaken by another one under that key."""
    return isinstance(error, Problem | CallsheetError) and getattr(error, "code", "") not in OVERTAKEN
