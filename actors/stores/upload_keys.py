"""Which upload an idempotency key has begun, for a day: repeated under its key, a creation gives the same upload."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from callsheet.actors.client import IDEMPOTENCY_SECONDS
from callsheet.actors.stores.uploads import new_upload_id
from callsheet.actors.tenants.names import begun_upload
from callsheet.actors.wire import unavailable


class Begun(msgspec.Struct, frozen=True):
    """The upload of a key. `fingerprint` tells another request under the key from a repeated one. `told`: its client
    was told of it, so that where it is no more it was used, given up, or has expired; else a crash was in between."""

    upload: str
    fingerprint: str
    told: bool = False


class UploadKeys:
    """The uploads of idempotency keys. `client`: asynchronous, of the journal's Redis. All raise Unavailable."""

    def __init__(self, client: Any) -> None:
        self._redis = client

    async def claim(self, tenant: str, key: str, fingerprint: str) -> Begun:
        """What the key stands for: a new upload, unless somebody has claimed it before."""
        name, wanted = begun_upload(tenant, key), Begun(new_upload_id(), fingerprint)
        with unavailable():
            await self._redis.set(name, _encode(wanted), nx=True, ex=IDEMPOTENCY_SECONDS)
            raw = await self._redis.get(name)
        return _decode(raw) if raw else wanted

    async def told(self, tenant: str, key: str, begun: Begun) -> None:
        """Its client is being told of it."""
        with unavailable():
            await self._redis.set(begun_upload(tenant, key), _encode(replace(begun, told=True)), xx=True, keepttl=True)


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Begun).decode
