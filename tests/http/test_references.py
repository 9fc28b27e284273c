"""Submitting in JSON: a finished upload, or an address."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from callsheet.actors import wire
from callsheet.actors.tenants.limits import limits_of
from callsheet.actors.tenants.quota import Ledger
from callsheet.config.settings import Settings
from callsheet.http.app import create_app
from tests.http.service import Api, Stages
from tests.http.tus import BYTES, TUS, begin, patch, submit
from tests.waiting import eventually

DATA = os.urandom(200_000)
NAMED = {"Upload-Metadata": "filename YS53YXY=,filetype YXVkaW8vd2F2"}  # a.wav, audio/wav


def uploaded(client: httpx.Client, data: bytes = DATA) -> str:
    """The id of a finished upload."""
    path = begin(client, len(data), **NAMED)
    assert patch(client, path, 0, data).status_code == 204
    return path.rpartition("/")[2]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_finished_upload_becomes_the_input_of_a_job_and_is_no_upload_any_more(
    client: httpx.Client, api: Api, stages: Stages
) -> None:
    upload = uploaded(client)
    [data] = (api.data / "store" / "uploads").glob(f"*/{upload}/data")
    inode = data.stat().st_ino
    answer = submit(client, upload=upload, params={"level": 5})
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert job["params"] == {"level": 5, "tags": []}
    file = api.data / "store" / "jobs" / job["id"] / "input" / "source"
    assert file.read_bytes() == DATA
    assert file.stat().st_ino == inode, "it was copied"
    said = {key: job["input"][key] for key in ("filename", "media_type", "bytes", "sha256")}
    digest = hashlib.sha256(DATA).hexdigest()
    assert said == {"filename": "a.wav", "media_type": "audio/wav", "bytes": len(DATA), "sha256": digest}
    assert client.head(f"/v1/uploads/{upload}", headers=TUS).status_code == 404
    eventually(lambda: not data.parent.exists())
    stages.complete(job["id"])
    assert code(submit(client, upload=upload)) == (422, "unknown_upload")


def test_an_upload_may_be_named_by_its_address(client: httpx.Client, api: Api) -> None:
    assert submit(client, upload=f"{api.url}/v1/uploads/{uploaded(client)}").status_code == 202


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"../../x", "x"),
        (b"..\\..\\x", "x"),
        (b"a\0\r\nX-Injected: 1.wav", "aX-Injected: 1.wav"),
        (b"-i", "-i"),
        (b"%s%n", "%s%n"),
        (b"n" * 300, "n" * 255),
        ("talk\u202evaw.exe".encode(), "talkvaw.exe"),
        (b"\xed\xa0\x80x.wav", "\ufffd\ufffd\ufffdx.wav"),
        (b"..", "file"),
    ],
)
def test_a_file_name_is_for_people_however_it_comes(client: httpx.Client, api: Api, given: bytes, kept: str) -> None:
    path = begin(client, 5, **{"Upload-Metadata": f"filename {base64.b64encode(given).decode()}"})
    patch(client, path, 0, b"hello")
    by_upload = submit(client, upload=path).json()
    assert by_upload["input"]["filename"] == kept
    assert [name for name in api.files() if by_upload["id"] in name] == [f"jobs/{by_upload['id']}/input/source"]
    by_address = submit(client, source_url=f"https://media.example/{quote(given, safe='')}").json()
    assert by_address["input"]["filename"] == kept


def test_an_unfinished_upload_is_told_how_far_it_is_and_can_go_on(client: httpx.Client) -> None:
    path = begin(client, 10)
    patch(client, path, 0, b"hello")
    answer = submit(client, upload=path.rpartition("/")[2])
    assert code(answer) == (409, "upload_incomplete")
    assert (answer.json()["offset"], answer.json()["length"]) == (5, 10)
    assert patch(client, path, 5, b"world").status_code == 204
    assert submit(client, upload=path.rpartition("/")[2]).status_code == 202


def test_a_submission_repeated_under_its_key_is_the_same_job_though_the_upload_is_gone(client: httpx.Client) -> None:
    upload, key = uploaded(client), os.urandom(8).hex()
    first = submit(client, key, upload=upload)
    again = submit(client, key, upload=upload)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert code(submit(client, key, upload=upload, params={"level": 9})) == (422, "idempotency_key_reused")
    assert code(submit(client, key, upload=uploaded(client))) == (422, "idempotency_key_reused")


def unlocked(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer once it is no 423: who holds the upload may take longer than the others are made to wait for it."""
    return eventually(lambda: None if (answer := ask()).status_code == 423 else answer)


def test_many_at_once_under_one_key_are_one_job(api: Api, client: httpx.Client) -> None:
    upload, key, start = uploaded(client), os.urandom(8).hex(), threading.Barrier(6)

    def one(_: int) -> httpx.Response:
        with httpx.Client(base_url=api.url, timeout=60) as mine:
            start.wait()
            return unlocked(lambda: submit(mine, key, upload=upload))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(one, range(6)))
    assert [a.status_code for a in answers] == [202] * 6, [a.text for a in answers]
    assert len({a.json()["id"] for a in answers}) == 1


def test_an_upload_goes_into_one_job_only_whoever_asks_at_once(api: Api, client: httpx.Client) -> None:
    upload, start = uploaded(client), threading.Barrier(4)

    def one(_: int) -> int:
        with httpx.Client(base_url=api.url, timeout=60) as mine:
            start.wait()
            return unlocked(lambda: submit(mine, upload=upload)).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [202, 422, 422, 422]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({}, (422, "missing_part")),
        ({"upload": "0" * 32, "source_url": "http://a.example/"}, (422, "missing_part")),
        ({"upload": "0" * 32}, (422, "unknown_upload")),
        ({"upload": "../../jobs"}, (422, "unknown_upload")),
        ({"upload": ""}, (422, "unknown_upload")),
        ({"upload": 5}, (422, "invalid_field")),
        ({"upload": "0" * 32, "pipeline": "other"}, (422, "unknown_pipeline")),
        ({"upload": "0" * 32, "pipeline": None}, (422, "missing_part")),
        ({"upload": "0" * 32, "params": {"level": 99}}, (422, "invalid_params")),
        ({"upload": "0" * 32, "params": [1]}, (422, "invalid_params")),
        ({"upload": "0" * 32, "params": []}, (422, "invalid_params")),
        ({"upload": "0" * 32, "file": "x"}, (400, "unexpected_part")),
        ({"source_url": "ftp://a.example/"}, (422, "url_forbidden")),
        ({"source_url": "http://127.0.0.1/"}, (422, "url_forbidden")),
        ({"source_url": "http://2130706433/"}, (422, "url_forbidden")),
        ({"source_url": "http://[::ffff:10.0.0.1]/"}, (422, "url_forbidden")),
        ({"source_url": "http://a.example:6379/"}, (422, "url_forbidden")),
        ({"source_url": "http://a.example\r\nX: y"}, (422, "url_forbidden")),
        ({"source_url": ""}, (422, "url_forbidden")),
        ({"source_url": {}}, (422, "invalid_field")),
    ],
)
def test_a_bad_submission_is_refused(client: httpx.Client, members: dict[str, Any], told: tuple[int, str]) -> None:
    assert code(submit(client, **members)) == told


def test_an_upload_whose_job_did_not_come_about_stays_and_stays_counted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told() -> tuple[int, int]:
        app: Any = create_app(settings.model_copy(update={"pipelines": ("tests.http.sample:pipeline",)}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            first = {**BYTES, "Upload-Length": "5"}
            path = (await client.post("/v1/uploads", headers=first, content=b"hello")).headers["location"]
            monkeypatch.setattr(wire, "MAX_MAILBOX", 0)
            answer = await client.post("/v1/jobs", json={"pipeline": "sample", "upload": path})
            return answer.status_code, (await client.head(path, headers=TUS)).status_code

    assert asyncio.run(told()) == (503, 200)
    ledger = Ledger(settings.journal, limits_of(Settings()))
    assert ledger.used("default") == 5
    ledger.close()


def test_an_upload_that_the_pipeline_does_not_take_is_refused_at_once_and_stays(client: httpx.Client) -> None:
    upload = uploaded(client, b"refuse me, says the file")
    assert code(submit(client, upload=upload)) == (415, "unsupported_container")
    assert client.head(f"/v1/uploads/{upload}", headers=TUS).status_code == 200


def test_an_empty_upload_is_refused(client: httpx.Client) -> None:
    assert code(submit(client, upload=begin(client, 0).rpartition("/")[2])) == (422, "empty_file")


def test_a_job_by_address_has_a_stage_before_the_others_and_knows_nothing_of_its_input_yet(
    client: httpx.Client,
) -> None:
    answer = submit(client, source_url="http://media.example/a%20talk.mp4?token=1")
    job = answer.json()
    assert answer.status_code == 202
    assert [stage["name"] for stage in job["stages"]] == ["fetch", "one", "two"]
    assert [stage["status"] for stage in job["stages"]] == ["dispatched", "waiting", "waiting"]
    assert job["input"] == {
        "filename": "a talk.mp4",
        "bytes": 0,
        "sha256": "",
        "media_type": "application/octet-stream",
        "duration": None,
        "source_url": "http://media.example/a%20talk.mp4?token=1",
    }


def test_an_upload_outlives_a_submission_that_nobody_took(client: httpx.Client) -> None:
    """A mistake beside the upload costs the mistake, not the upload."""
    upload = uploaded(client)
    assert submit(client, upload=upload, params={"level": 99}).status_code == 422
    assert submit(client, upload=upload).status_code == 202


def test_bytes_cannot_be_added_to_what_is_a_jobs_input(client: httpx.Client) -> None:
    upload = uploaded(client)
    submit(client, upload=upload)
    answer = client.patch(f"/v1/uploads/{upload}", headers={**BYTES, "Upload-Offset": str(len(DATA))}, content=b"more")
    assert answer.status_code == 404


@pytest.mark.parametrize("point", ["api.sending", "api.sent"])
def test_a_submission_cut_off_by_a_crash_is_one_job_when_repeated(
    make_api: Callable[..., Api], api: Api, client: httpx.Client, addresses: dict[str, str], point: str
) -> None:
    """The API dies right before, or right after, the message is in the mailbox; the client asks again elsewhere."""
    upload, key = uploaded(client), os.urandom(8).hex()
    doomed = make_api(failpoints=f"{point}=1", data=str(api.data))
    ledger = Ledger(addresses["redis_url"], limits_of(Settings()))
    before = ledger.used("default")
    with httpx.Client(base_url=doomed.url) as dying, pytest.raises(httpx.HTTPError):
        submit(dying, key, upload=upload)
    doomed.kill()
    answer = submit(client, key, upload=upload)
    assert answer.status_code == 202
    job = answer.json()["id"]
    assert [j["id"] for j in client.get("/v1/jobs?limit=20").json()["jobs"]].count(job) == 1
    assert (api.data / "store" / "jobs" / job / "input" / "source").read_bytes() == DATA
    assert client.head(f"/v1/uploads/{upload}", headers=TUS).status_code == 404
    assert ledger.used("default") == before, "the same bytes are counted as before, once, under another name"
    ledger.close()


def test_what_is_stored_is_counted_once_from_the_first_byte_to_the_last(
    client: httpx.Client, addresses: dict[str, str]
) -> None:
    ledger = Ledger(addresses["redis_url"], limits_of(Settings()))
    start = ledger.used("default")

    def used() -> int:
        return ledger.used("default") - start

    path = begin(client, len(DATA))
    assert used() == len(DATA)  # as much as it says it will be
    patch(client, path, 0, DATA)
    assert used() == len(DATA)
    job = submit(client, upload=path).json()["id"]
    assert used() == len(DATA)
    client.post(f"/v1/jobs/{job}/cancel")
    client.delete(f"/v1/jobs/{job}")
    eventually(lambda: used() == 0)
    client.delete(begin(client, 1000), headers=TUS)
    assert used() == 0
    ledger.close()
