"""One idempotency key, one upload: repeated, at the same time, and after a crash in between (I7, I8)."""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from callsheet.actors.stores.uploads import UploadStore
from callsheet.actors.tenants.limits import limits_of
from callsheet.actors.tenants.quota import Ledger
from callsheet.config.settings import Settings
from callsheet.http.app import create_app
from tests.http.service import Api
from tests.http.tus import BYTES, TUS, Slow, code, offset, patch, stored, submit, unlocked
from tests.waiting import eventually

DATA = os.urandom(2_500_000)


class SlowCreation(Slow):
    """The same, of a creation."""

    method = "POST"


@pytest.fixture
def key() -> str:
    return secrets.token_hex(8)


def create(client: httpx.Client, key: str, content: Any = None, **headers: str) -> httpx.Response:
    said = {"Upload-Length": str(len(DATA)), "Idempotency-Key": key, **headers}
    plain = TUS if content is None else BYTES
    return client.post("/v1/uploads", headers={**plain, **said}, content=content)


def where(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def uploads_of(api: Api) -> set[str]:
    """Those that are there, without those in the making."""
    return {folder.name for folder in (api.data / "store" / "uploads").glob("*/*") if len(folder.name) == 32}


def test_the_same_key_and_request_are_the_same_upload_however_far_it_is(client: httpx.Client, key: str) -> None:
    path = where(create(client, key))
    patch(client, path, 0, DATA[:1000])
    again = create(client, f'"{key}"')
    assert (where(again), again.headers["upload-offset"]) == (path, "1000")
    assert again.headers["upload-expires"].endswith(" GMT")
    assert where(create(client, secrets.token_hex(8))) != path


@pytest.mark.parametrize(
    "other",
    [
        {"Upload-Length": "5"},
        {"Upload-Metadata": "filename YS53YXY="},
        {"content": DATA[:10]},
        {"Upload-Checksum": f"md5 {'A' * 22}=="},
    ],
)
def test_the_same_key_with_anything_else_is_refused_and_changes_nothing(
    client: httpx.Client, api: Api, key: str, other: dict[str, Any]
) -> None:
    path, before = where(create(client, key)), uploads_of(api)
    assert code(create(client, key, **other)) == (422, "idempotency_key_reused")
    assert uploads_of(api) <= before
    assert offset(client, path) == 0


def test_other_bytes_of_the_same_length_are_another_request(client: httpx.Client, api: Api, key: str) -> None:
    path = where(create(client, key, DATA[:1000]))
    assert code(create(client, key, DATA[:999] + bytes([DATA[999] ^ 1]))) == (422, "idempotency_key_reused")
    assert where(create(client, key, DATA[:1000])) == path
    assert stored(api, path) == DATA[:1000]


def test_what_was_sent_is_not_added_twice_though_more_has_come(client: httpx.Client, api: Api, key: str) -> None:
    path = where(create(client, key, DATA[:1000]))
    patch(client, path, 1000, DATA[1000:2000])
    again = create(client, key, DATA[:1000])
    assert (where(again), again.headers["upload-offset"]) == (path, "2000")
    assert stored(api, path) == DATA[:2000]


def test_a_creation_that_broke_off_is_sent_again_and_only_what_is_missing_is_added(
    client: httpx.Client, api: Api, key: str
) -> None:
    before = uploads_of(api)
    begun = SlowCreation(api, "/v1/uploads", 0, len(DATA), **{"Upload-Length": str(len(DATA)), "Idempotency-Key": key})
    begun.socket.sendall(DATA[:1_500_000])
    [upload] = eventually(lambda: uploads_of(api) - before)
    eventually(lambda: stored(api, upload))
    begun.socket.close()
    eventually(lambda: unlocked(api, upload))
    assert 0 < len(stored(api, upload)) <= 1_500_000
    answer = create(client, key, DATA)
    assert (where(answer), answer.headers["upload-offset"]) == (f"/v1/uploads/{upload}", str(len(DATA)))
    assert stored(api, upload) == DATA


def test_ten_at_the_same_time_are_one_upload(client: httpx.Client, api: Api, key: str) -> None:
    before = uploads_of(api)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: create(client, key), range(10)))
    assert len({where(answer) for answer in answers}) == 1
    assert len(uploads_of(api) - before) == 1


def test_ten_with_their_bytes_at_the_same_time_are_one_upload(api: Api, key: str) -> None:
    before = uploads_of(api)

    def one(_: int) -> httpx.Response:
        with httpx.Client(base_url=api.url, timeout=60) as mine:
            return create(mine, key, DATA)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(one, range(10)))
    assert {a.status_code for a in answers} <= {201, 423}
    (upload,) = uploads_of(api) - before
    assert {where(a) for a in answers if a.status_code == 201} == {f"/v1/uploads/{upload}"}
    assert stored(api, upload) == DATA


def test_of_different_requests_at_the_same_time_one_wins(client: httpx.Client, api: Api, key: str) -> None:
    before = uploads_of(api)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: create(client, key, **{"Upload-Length": str(n + 1)}), range(10)))
    assert sorted(a.status_code for a in answers) == [201] + [422] * 9
    assert len(uploads_of(api) - before) == 1


@pytest.mark.parametrize("taken", ["by a job", "given up"])
def test_an_upload_that_is_no_more_is_not_begun_again(client: httpx.Client, api: Api, key: str, taken: str) -> None:
    path = where(create(client, key, DATA))
    if taken == "by a job":
        assert submit(client, upload=path).status_code == 202
    else:
        client.delete(path, headers=TUS)
    before = uploads_of(api)
    assert code(create(client, key, DATA)) == (410, "upload_gone")
    assert uploads_of(api) <= before


def test_a_creation_that_is_refused_leaves_nothing_and_may_be_asked_for_again(
    client: httpx.Client, api: Api, key: str
) -> None:
    before = uploads_of(api)
    bad = {"Upload-Checksum": f"md5 {'A' * 22}=="}
    for _ in range(2):
        assert code(create(client, key, DATA[:1000], **bad)) == (460, "checksum_mismatch")
        assert uploads_of(api) <= before


def test_the_keys_of_uploads_and_jobs_are_apart(client: httpx.Client, key: str) -> None:
    path = where(create(client, key, DATA))
    answer = submit(client, key, upload=path)
    assert (answer.status_code, submit(client, key, upload=path).json()["id"]) == (202, answer.json()["id"])


@pytest.mark.parametrize("odd", ["", "a b", "x" * 256, '"'])
def test_a_key_that_is_none_is_refused(client: httpx.Client, odd: str) -> None:
    assert code(create(client, odd)) == (400, "invalid_parameter")


@pytest.mark.parametrize("breaks", ["before it is there", "after it is there"])
def test_what_a_crash_left_is_one_upload_when_repeated(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    """The process goes between any two steps; another one is asked again."""

    async def ask() -> httpx.Response:
        app: Any = create_app(settings)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            headers = {**TUS, "Upload-Length": "5", "Idempotency-Key": "one"}
            return await client.post("/v1/uploads", headers=headers)

    make = UploadStore.create

    def die(self: UploadStore, *args: Any) -> bool:
        if breaks == "after it is there":
            make(self, *args)
        raise SystemExit

    monkeypatch.setattr(UploadStore, "create", die)
    with pytest.raises(SystemExit):
        asyncio.run(ask())
    monkeypatch.setattr(UploadStore, "create", make)
    answers = [asyncio.run(ask()) for _ in range(2)]
    assert len({where(answer) for answer in answers}) == 1
    assert len(list((settings.data / "store" / "uploads").glob("*/*"))) == 1
    ledger = Ledger(settings.journal, limits_of(Settings()))
    assert ledger.used("default") == 5
    ledger.close()
