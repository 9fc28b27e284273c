"""The resumable upload protocol over the wire, header by header."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
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
from tests.http.tus import BYTES, DATA, TUS, Slow, begin, code, offset, patch, stored, unlocked
from tests.waiting import eventually


def digest(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def test_the_server_says_what_it_can_do(client: httpx.Client) -> None:
    for path in ("/v1/uploads", "/v1/uploads/abc"):
        answer = client.options(path)
        assert answer.status_code == 204
        assert answer.headers["allow"] == ("OPTIONS, POST" if path == "/v1/uploads" else "DELETE, HEAD, OPTIONS, PATCH")
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-max-size"] == str(500 * 1024 * 1024)
        assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256,md5"
        assert set(answer.headers["tus-extension"].split(",")) == {
            *("creation", "creation-with-upload", "creation-defer-length", "termination", "checksum", "expiration")
        }


def test_another_version_is_refused_everywhere_and_told_which_one_is_spoken(client: httpx.Client) -> None:
    path = begin(client)
    asked = [("POST", "/v1/uploads"), ("HEAD", path), ("PATCH", path), ("DELETE", path)]
    for headers in ({}, {"Tus-Resumable": "0.2.2"}):
        for method, where in asked:
            answer = client.request(method, where, headers=headers)
            assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")


def test_an_upload_comes_in_pieces(client: httpx.Client, api: Api) -> None:
    path = begin(client, **{"Upload-Metadata": "filename YS53YXY=,private"})
    head = client.head(path, headers=TUS)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", str(len(DATA)))
    assert head.headers["upload-metadata"] == "filename YS53YXY=,private"
    assert head.headers["upload-expires"].endswith(" GMT")
    for start in range(0, len(DATA), 1_300_000):
        piece = DATA[start : start + 1_300_000]
        answer = patch(client, path, start, piece)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(start + len(piece)))
        assert answer.headers["upload-expires"].endswith(" GMT")
    assert stored(api, path) == DATA


def test_an_upload_may_begin_with_its_bytes_and_say_its_length_later(client: httpx.Client, api: Api) -> None:
    first = {**BYTES, "Upload-Defer-Length": "1"}
    answer = client.post("/v1/uploads", headers=first, content=DATA[:1000])
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "1000")
    path = answer.headers["location"]
    head = client.head(path, headers=TUS)
    assert (head.headers["upload-defer-length"], "upload-length" in head.headers) == ("1", False)
    assert code(patch(client, path, 1000, b"", **{"Upload-Length": "999"})) == (400, "invalid_parameter")
    answer = patch(client, path, 1000, iter([DATA[1000:]]), **{"Upload-Length": str(len(DATA))})  # chunked
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(len(DATA)))
    assert code(patch(client, path, len(DATA), b"", **{"Upload-Length": "9999999"})) == (400, "invalid_parameter")
    assert stored(api, path) == DATA


@pytest.mark.parametrize(
    ("headers", "status", "problem"),
    [
        ({}, 400, "invalid_parameter"),
        ({"Upload-Length": "5", "Upload-Defer-Length": "1"}, 400, "invalid_parameter"),
        ({"Upload-Defer-Length": "2"}, 400, "invalid_parameter"),
        ({"Upload-Length": "-1"}, 400, "invalid_parameter"),
        ({"Upload-Length": "1e3"}, 400, "invalid_parameter"),
        ({"Upload-Length": "9" * 17}, 400, "invalid_parameter"),
        ({"Upload-Length": str(500 * 1024 * 1024 + 1)}, 413, "upload_too_large"),
        ({"Upload-Length": "5", "Upload-Metadata": "filename %%%"}, 400, "invalid_parameter"),
        ({"Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="}, 400, "invalid_parameter"),
        ({"Upload-Length": "5", "Upload-Metadata": "a " + "YWFh" * 1100}, 400, "invalid_parameter"),
        ({"Upload-Length": "5", "Upload-Concat": "partial"}, 400, "invalid_parameter"),
        ({"Upload-Concat": "final;/v1/uploads/a /v1/uploads/b"}, 400, "invalid_parameter"),
    ],
)
def test_a_bad_creation_is_refused(client: httpx.Client, headers: dict[str, str], status: int, problem: str) -> None:
    assert code(client.post("/v1/uploads", headers={**TUS, **headers})) == (status, problem)


@pytest.mark.parametrize(
    ("headers", "content", "told"),
    [
        ({"Upload-Offset": "1"}, b"x", (409, "offset_mismatch")),
        ({"Upload-Offset": "11"}, b"x", (409, "offset_mismatch")),
        ({"Upload-Offset": "-1"}, b"x", (400, "invalid_parameter")),
        ({"Upload-Offset": "0x0"}, b"x", (400, "invalid_parameter")),
        ({}, b"x", (400, "invalid_parameter")),
        ({"Upload-Offset": "0", "Content-Type": "application/octet-stream"}, b"x", (415, "unsupported_media_type")),
        ({"Upload-Offset": "0"}, b"x" * 11, (413, "upload_too_large")),
        ({"Upload-Offset": "0"}, [b"x" * 6, b"x" * 5], (413, "upload_too_large")),
        ({"Upload-Offset": "0", "Upload-Checksum": "crc32 AAAA"}, b"x", (400, "invalid_parameter")),
        ({"Upload-Offset": "0", "Upload-Checksum": "sha1 AAAA"}, b"x", (400, "invalid_parameter")),
        ({"Upload-Offset": "0", "Upload-Checksum": "sha1"}, b"x", (400, "invalid_parameter")),
    ],
)
def test_a_bad_piece_is_refused(
    client: httpx.Client, api: Api, headers: dict[str, str], content: Any, told: tuple[int, str]
) -> None:
    path = begin(client, 10)
    content = iter(content) if isinstance(content, list) else content
    assert code(client.patch(path, headers={**BYTES, **headers}, content=content)) == told
    assert len(stored(api, path)) <= 10


def test_a_foreign_or_malformed_id_is_nothing(client: httpx.Client) -> None:
    for name in ("0" * 32, "x", "%2e%2e", "..%2f..%2fjobs", "A" * 32):
        for method in ("HEAD", "PATCH", "DELETE"):
            answer = client.request(method, f"/v1/uploads/{name}", headers={**BYTES, "Upload-Offset": "0"})
            assert answer.status_code == 404


def test_an_upload_can_be_given_up(client: httpx.Client, api: Api) -> None:
    path = begin(client)
    patch(client, path, 0, DATA[:1000])
    assert client.delete(path, headers=TUS).status_code == 204
    assert client.head(path, headers=TUS).status_code == 404
    assert code(client.delete(path, headers=TUS)) == (404, "not_found")
    assert list((api.data / "store" / "uploads").glob(f"*/{path.rpartition('/')[2]}")) == []


def test_a_method_may_be_sent_under_another_name(client: httpx.Client) -> None:
    path = begin(client, 5)
    meant = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert client.post(path, headers=meant, content=b"hello").status_code == 204
    assert offset(client, path) == 5
    look = {**TUS, "X-HTTP-Method-Override": "HEAD"}
    assert client.post(path, headers=look).headers["upload-offset"] == "5"
    assert client.post(path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}).status_code == 204
    nothing = httpx.post(f"{client.base_url}{path}", headers=look, timeout=60)  # whole, or httpx would say so
    assert (nothing.status_code, nothing.content) == (404, b"")
    assert client.get(path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}).status_code == 405


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_piece_counts_only_with_its_checksum(client: httpx.Client, api: Api, algorithm: str) -> None:
    path = begin(client)
    good, bad = digest(algorithm, DATA[:2_000_000]), digest(algorithm, b"other")
    assert code(patch(client, path, 0, DATA[:2_000_000], **{"Upload-Checksum": bad})) == (460, "checksum_mismatch")
    assert offset(client, path) == 0
    assert patch(client, path, 0, DATA[:2_000_000], **{"Upload-Checksum": good}).status_code == 204
    assert stored(api, path) == DATA[:2_000_000]


@pytest.fixture
def slow(api: Api) -> Iterator[Callable[..., Slow]]:
    made: list[Slow] = []

    def make(*args: Any, **headers: str) -> Slow:
        made.append(Slow(api, *args, **headers))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def test_what_came_before_the_connection_broke_is_kept(
    client: httpx.Client, api: Api, slow: Callable[..., Slow]
) -> None:
    path = begin(client)
    sender = slow(path, 0, len(DATA))
    sender.socket.sendall(DATA[:2_500_000])
    kept = eventually(lambda: offset(client, path))
    sender.socket.close()
    eventually(lambda: unlocked(api, path))
    after = offset(client, path)
    assert kept <= after <= 2_500_000
    assert stored(api, path) == DATA[:after]
    assert patch(client, path, after, DATA[after:]).status_code == 204
    assert stored(api, path) == DATA


def test_what_cannot_be_checked_any_more_is_not_kept(client: httpx.Client, api: Api, slow: Callable[..., Slow]) -> None:
    path = begin(client)
    sender = slow(path, 0, len(DATA), **{"Upload-Checksum": digest("sha1", DATA)})
    sender.socket.sendall(DATA[:1_500_000])
    folder = api.data / "store" / "uploads"
    eventually(lambda: list(folder.glob(f"*/{path.rpartition('/')[2]}/aside-*")))
    sender.socket.close()
    eventually(lambda: not list(folder.glob(f"*/{path.rpartition('/')[2]}/aside-*")))
    assert offset(client, path) == 0


def test_two_at_once_do_not_mix_and_the_second_is_told(client: httpx.Client, slow: Callable[..., Slow]) -> None:
    path = begin(client)
    sender, stop = slow(path, 0, len(DATA)), threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for at in range(2_000):
                sender.socket.sendall(DATA[at : at + 1])
                if stop.wait(0.05):
                    return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        eventually(lambda: locked(client, path))
    finally:
        stop.set()
        dripping.join()


def locked(client: httpx.Client, path: str) -> bool:
    """Whether the upload is somebody else's at the moment; it waits for that one as long as the server does. What is
    asked changes nothing where it is not."""
    return code(patch(client, path, len(DATA), b"")) == (423, "upload_locked")


def test_a_connection_that_says_nothing_more_is_overtaken(client: httpx.Client, slow: Callable[..., Slow]) -> None:
    path = begin(client)
    sender = slow(path, 0, len(DATA))
    sender.socket.sendall(DATA[:100_000])  # and then it is silent, though it is open: a telephone out of reach
    eventually(lambda: offset(client, path) == 100_000)
    assert patch(client, path, 100_000, DATA[100_000:]).status_code == 204
    sender.socket.sendall(b"late")
    assert b" 409 " in sender.answer().partition(b"\r\n")[0]
    assert offset(client, path) == len(DATA)


def test_a_slow_connection_goes_on_after_a_silence(api: Api, client: httpx.Client, slow: Callable[..., Slow]) -> None:
    path = begin(client, 10)
    sender = slow(path, 0, 10)
    sender.socket.sendall(b"hello")
    eventually(lambda: offset(client, path) == 5)  # written because nothing more came: it is let go
    sender.socket.sendall(b"world")
    assert b" 204 " in sender.answer().partition(b"\r\n")[0]
    assert stored(api, path) == b"helloworld"


def test_a_lock_dies_with_its_process(make_api: Callable[..., Api]) -> None:
    api = make_api()
    with httpx.Client(base_url=api.url, timeout=60) as client:
        path = begin(client)
        sender = Slow(api, path, 0, len(DATA))
        sender.socket.sendall(DATA[:2_000_000])
        eventually(lambda: offset(client, path) > 0)
        before = offset(client, path)
    api.kill()
    sender.socket.close()
    again = make_api(data=str(api.data))
    with httpx.Client(base_url=again.url, timeout=60) as client:
        assert offset(client, path) >= before
        at = offset(client, path)
        assert patch(client, path, at, DATA[at:]).status_code == 204
        assert stored(again, path) == DATA


def test_a_cap_and_a_full_disk_are_told_before_anything_is_sent(settings: Settings) -> None:
    async def ask(method: str, path: str, content: Any = b"", *, changes: dict[str, int], **headers: str) -> Any:
        app: Any = create_app(settings.model_copy(update=changes))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.request(method, path, headers={**BYTES, **headers}, content=content)

    def told(*args: Any, **more: Any) -> tuple[int, str]:
        return code(asyncio.run(ask(*args, **more)))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 500

    small = {"max_upload_bytes": 1000}
    first = {"Upload-Defer-Length": "1"}
    assert told("POST", "/v1/uploads", changes=small, **{"Upload-Length": "1001"}) == (413, "upload_too_large")
    assert told("POST", "/v1/uploads", b"x" * 1001, changes=small, **first) == (413, "upload_too_large")
    assert told("POST", "/v1/uploads", endless(), changes=small, **first) == (413, "upload_too_large")
    full = {"min_free_bytes": 2**60}
    assert told("POST", "/v1/uploads", changes=full, **{"Upload-Length": "10"}) == (507, "storage_full")
    left = [file for file in (settings.data / "store").rglob("*") if file.is_file()]
    assert left == [], "an upload whose client was not told where it is can never be gone on with"


def test_a_page_of_another_site_uploads_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/uploads", headers={**TUS, "Upload-Length": "5", "Origin": "http://evil.example"})
    assert code(answer) == (403, "forbidden_origin")
    assert "access-control-allow-origin" not in client.options("/v1/uploads").headers


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
