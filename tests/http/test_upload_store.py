"""Uploads on the disk: how long they are kept, and whose they are."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
import redis

from callsheet.actors.host import Host
from callsheet.actors.stores import uploads as on_disk
from callsheet.actors.stores.uploads import (
    UploadInfo,
    UploadStore,
    UploadUnknown,
    new_upload_id,
    open_uploads,
)
from callsheet.actors.tenants.names import QuotaKeys
from callsheet.config.settings import Settings
from callsheet.http.app import create_app
from callsheet.http.uploads import reception
from tests.http.service import Api
from tests.http.tus import BYTES, TUS, begin, code, patch
from tests.waiting import eventually


def test_an_expired_upload_is_nothing_and_its_bytes_go(client: httpx.Client, api: Api) -> None:
    path = begin(client, 10)
    patch(client, path, 0, b"hello")
    [folder] = (api.data / "store" / "uploads").glob(f"*/{path.rpartition('/')[2]}")
    others = {p.name for p in folder.parent.iterdir()} - {folder.name}
    long_ago = time.time() - 25 * 3600
    os.utime(folder / "data", (long_ago, long_ago))
    assert client.head(path, headers=TUS).status_code == 404
    assert code(patch(client, path, 5, b"world")) == (404, "not_found")
    UploadStore(api.data / "store" / "uploads", 24 * 3600).sweep()
    assert {p.name for p in folder.parent.iterdir()} == others


def test_what_is_reserved_for_an_upload_holds_while_it_comes_in_however_slowly(
    settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "RENEW_SECONDS", 0.0)
    journal: Any = redis.Redis.from_url(redis_url)
    left = list[float]()

    def lasts() -> float:
        """Until when the one reservation there is holds."""
        [(_, until)] = journal.zrange(QuotaKeys("default").until, 0, -1, withscores=True)
        return float(until)

    def clock() -> int:
        seconds, micros = journal.time()
        return int(seconds * 1000 + micros // 1000)

    async def body() -> AsyncIterator[bytes]:
        left.append(lasts())
        yield b"hel"
        begun = clock()
        eventually(lambda: clock() > begun)
        yield b"lo"

    async def go() -> httpx.Response:
        app: Any = create_app(settings)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            made = await client.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"})
            headers = {**BYTES, "Upload-Offset": "0", "Content-Length": "5"}
            return await client.patch(made.headers["location"], headers=headers, content=body())

    assert asyncio.run(go()).headers["upload-offset"] == "5"
    assert lasts() > left[0]


def test_a_host_removes_what_has_expired(settings: Settings) -> None:
    store = open_uploads(settings)
    old, new = new_upload_id(), new_upload_id()
    for upload in (old, new):
        assert store.create("one", upload, UploadInfo(5))
    [data] = (settings.data / "store" / "uploads").glob(f"*/{old}/data")
    long_ago = time.time() - settings.upload_keep_seconds
    os.utime(data, (long_ago, long_ago))
    Host(settings)._sweep()
    assert [folder.name for folder in (settings.data / "store" / "uploads").glob("*/*")] == [new]


def test_nobody_writes_into_an_upload_that_was_removed_and_begun_anew_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, upload = UploadStore(tmp_path, 60), new_upload_id()
    assert store.create("one", upload, UploadInfo(5))
    lock = on_disk.lock

    def late(data: IO[bytes]) -> None:
        """Somebody else does both between the opening of the file and its lock."""
        monkeypatch.setattr(on_disk, "lock", lock)
        with store.hold("one", upload) as held:
            held.remove()
        assert store.create("one", upload, UploadInfo(5))
        lock(data)

    monkeypatch.setattr(on_disk, "lock", late)
    with pytest.raises(UploadUnknown):
        store.hold("one", upload)
    with store.hold("one", upload) as held:
        held.write(b"hello")
    assert store.look("one", upload).offset == 5


def test_what_a_crash_left_of_a_creation_goes_too(tmp_path: Path) -> None:
    half = tmp_path / "a" / ("0" * 32)
    half.mkdir(parents=True)
    store = UploadStore(tmp_path, 24 * 3600)
    (half / "data").touch()
    store.sweep()
    assert half.exists()  # it may be in the making
    os.utime(half / "data", (0, 0))
    store.sweep()
    assert not half.exists()


def test_an_upload_is_found_by_whoever_owns_it_and_by_nobody_else(tmp_path: Path) -> None:
    store = UploadStore(tmp_path, 60)
    upload = new_upload_id()
    assert store.create("one", upload, UploadInfo(5))
    assert not store.create("one", upload, UploadInfo(7))
    assert store.look("one", upload).info.length == 5
    assert len(list(tmp_path.glob("*/*"))) == 1
    assert store.look("one", upload).offset == 0
    for tenant, name in (("two", upload), ("one/../one", upload), ("one", upload.upper()), ("one", f"../{upload}")):
        for ask in (store.look, store.hold):
            with pytest.raises(UploadUnknown):
                ask(tenant, name)
