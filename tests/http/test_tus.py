"""The resumable upload protocol over the wire, header by header."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from callsheet.config.settings import Settings
from callsheet.http.app import create_app
from tests.http.service import Api
from tests.http.tus import BYTES, DATA, TUS, begin, code, digest, offset, patch, stored


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
