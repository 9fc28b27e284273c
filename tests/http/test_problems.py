"""Every problem of the table can happen, and looks as RFC 9457 wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from callsheet.actors import wire
from callsheet.actors.client import Jobs
from callsheet.actors.errors import StoreAway, StoreMisconfigured
from callsheet.actors.keys import PartitionKeys, partition_of
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.uploads import UploadInfo, UploadStore, new_upload_id
from callsheet.actors.tenants.keyring import KeyStore
from callsheet.config.settings import Settings
from callsheet.http.app import create_app
from callsheet.http.problems import PROBLEMS, Problem
from callsheet.http.uploads import resources as uploads
from callsheet.jobs.draft import Outcome
from tests.http.by_hand import FILE, FORM, PIPELINE, form
from tests.http.service import Api, Stages

Provoke = Callable[[Settings, pytest.MonkeyPatch], Coroutine[Any, Any, httpx.Response]]
NOBODY = "0123456789abcdef" * 2
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def post(client: httpx.Client, *parts: tuple[str, str, str], **headers: str) -> httpx.Response:
    return client.post("/v1/jobs", content=form(*parts), headers={**FORM, **headers})


def lost_cursor(client: httpx.Client) -> httpx.Response:
    """One of a place before everything that is kept."""
    places = client.get("/v1/events").json()["next_after"].split(".")
    return client.get(f"/v1/events?after={'.'.join(['1', *places[1:]])}")


def reused(client: httpx.Client) -> httpx.Response:
    post(client, PIPELINE, FILE, **{"Idempotency-Key": "once"})
    return post(client, PIPELINE, ("file", '; filename="a.wav"', "other"), **{"Idempotency-Key": "once"})


def upload_gone(client: httpx.Client) -> httpx.Response:
    begin = TUS | {"Upload-Length": "5", "Idempotency-Key": "given-up"}
    client.delete(client.post("/v1/uploads", headers=begin).headers["location"], headers=TUS)
    return client.post("/v1/uploads", headers=begin)


def forgotten(client: httpx.Client, job: str) -> httpx.Response:
    client.post(f"/v1/jobs/{job}/cancel")
    client.delete(f"/v1/jobs/{job}")
    return client.get(f"/v1/jobs/{job}")


def missing_range(client: httpx.Client, job: str, stages: Stages) -> httpx.Response:
    stages.complete(job, **{"a.txt": b"hello"})
    return client.get(f"/v1/jobs/{job}/artifacts/a.txt", headers={"Range": "bytes=5-"})


def cancelled_twice(client: httpx.Client, job: str) -> httpx.Response:
    client.post(f"/v1/jobs/{job}/cancel")
    return client.post(f"/v1/jobs/{job}/cancel")


def unknown_stage(client: httpx.Client, job: str) -> httpx.Response:
    client.post(f"/v1/jobs/{job}/cancel")
    return client.post(f"/v1/jobs/{job}/retry", json={"from_stage": "three"})


# What a client does on the live service, and the code of the answer.
LIVE: dict[str, Callable[[httpx.Client, str, Stages], httpx.Response]] = {
    "bad_request": lambda c, _j, _s: c.request("WEBSOCKET", "/v1/jobs"),
    "invalid_json": lambda c, j, _s: c.post(f"/v1/jobs/{j}/retry", content=b'{"params": NaN}'),
    "invalid_multipart": lambda c, _j, _s: c.post("/v1/jobs", content=b"--y\r\n", headers=FORM),
    "invalid_parameter": lambda c, j, _s: c.get(f"/v1/jobs/{j}/events?after=x"),
    "invalid_cursor": lambda c, _j, _s: c.get("/v1/jobs?cursor=nonsense"),
    "forbidden_origin": lambda c, j, _s: c.post(f"/v1/jobs/{j}/cancel", headers={"Origin": "http://evil.example"}),
    "unknown_host": lambda c, _j, _s: c.get("/v1/jobs", headers={"Host": "evil.example"}),
    "cursor_lost": lambda c, _j, _s: lost_cursor(c),
    "not_found": lambda c, _j, _s: c.get("/v1/nothing"),
    "method_not_allowed": lambda c, j, _s: c.put(f"/v1/jobs/{j}"),
    "body_too_large": lambda c, j, _s: c.post(f"/v1/jobs/{j}/retry", content=b" " * 300_000),
    "unsupported_media_type": lambda c, _j, _s: c.post("/v1/jobs", content=b"a=b"),
    "range_not_satisfiable": missing_range,
    "upgrade_required": lambda c, j, _s: c.get(f"/v1/jobs/{j}/ws"),
    "missing_part": lambda c, _j, _s: post(c, FILE),
    "unexpected_part": lambda c, _j, _s: post(c, PIPELINE, FILE, ("extra", "", "1")),
    "duplicate_part": lambda c, _j, _s: post(c, PIPELINE, FILE, FILE),
    "empty_file": lambda c, _j, _s: post(c, PIPELINE, ("file", '; filename="a.wav"', "")),
    "unsupported_container": lambda c, _j, _s: post(c, PIPELINE, ("file", '; filename="a.wav"', "refuse me")),
    "unknown_pipeline": lambda c, _j, _s: post(c, FILE, ("pipeline", "", "nothing")),
    "invalid_params": lambda c, _j, _s: post(c, PIPELINE, ("params", "", '{"level": 10}'), FILE),
    "invalid_field": lambda c, j, _s: c.post(f"/v1/jobs/{j}/cancel", json={"why": "because"}),
    "nothing_to_deliver": lambda c, j, _s: c.post(f"/v1/jobs/{j}/webhooks/redeliver"),
    "unknown_upload": lambda c, _j, _s: c.post("/v1/jobs", json={"pipeline": "sample", "upload": NOBODY}),
    "idempotency_key_reused": lambda c, _j, _s: reused(c),
    "offset_mismatch": lambda c, _j, _s: c.patch(resumable(c, 5), headers=TUS | {"Upload-Offset": "1"}, content=b"a"),
    "upload_gone": lambda c, _j, _s: upload_gone(c),
    "upload_incomplete": lambda c, _j, _s: c.post(
        "/v1/jobs", json={"pipeline": "sample", "upload": resumable(c, 5).rpartition("/")[2]}
    ),
    "unsupported_version": lambda c, _j, _s: c.post("/v1/uploads", headers={"Tus-Resumable": "0.2.2"}),
    "checksum_mismatch": lambda c, _j, _s: c.patch(
        resumable(c, 5), headers=TUS | {"Upload-Offset": "0", "Upload-Checksum": f"md5 {'A' * 22}=="}, content=b"hello"
    ),
    "url_forbidden": lambda c, _j, _s: c.post(
        "/v1/jobs", json={"pipeline": "sample", "source_url": "http://169.254.169.254/latest"}
    ),
    "job_ended": lambda c, j, _s: cancelled_twice(c, j),
    "job_active": lambda c, j, _s: c.post(f"/v1/jobs/{j}/retry"),
    "job_expired": lambda c, j, _s: forgotten(c, j),
    "precondition_failed": lambda c, j, _s: c.post(f"/v1/jobs/{j}/cancel", headers={"If-Match": '"999"'}),
    "unknown_stage": lambda c, j, _s: unknown_stage(c, j),
}


def resumable(client: httpx.Client, length: int) -> str:
    """The path of a new upload in pieces."""
    return client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(length)}).headers["location"]


@pytest.mark.parametrize("code", LIVE)
def test_a_client_is_refused_with(code: str, client: httpx.Client, job: str, stages: Stages) -> None:
    check(LIVE[code](client, job, stages), code)


def check(answer: httpx.Response, code: str) -> None:
    status, title = PROBLEMS[code]
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["code"], problem["status"], problem["title"]) == (code, status, title)
    assert problem["type"] == f"urn:callsheet:problem:{code}"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert problem.get("request_id") == (answer.headers["x-request-id"] if status >= 500 else None)
    if status == 405:
        assert answer.headers["allow"]
    if status == 429:
        assert int(answer.headers["retry-after"]) > 0
    if status == 503 and code != "corrupt_record":
        assert answer.headers["retry-after"] == "2"


# What goes wrong inside: a test makes it so, in an application of its own.
async def ask_inside(settings: Settings, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **more)


@pytest.fixture
def inside(settings: Settings) -> Settings:
    return settings.model_copy(update={"pipelines": ("tests.http.sample:pipeline",), "reply_timeout": 0.2})


async def submit_inside(settings: Settings) -> httpx.Response:
    return await ask_inside(settings, "POST", "/v1/jobs", content=form(PIPELINE, FILE), headers=FORM)


async def timed_out(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    async def stalled() -> AsyncIterator[bytes]:
        yield form(PIPELINE, end="")
        await asyncio.Event().wait()

    hurried = settings.model_copy(update={"body_patience_seconds": 0.1})
    return await ask_inside(hurried, "POST", "/v1/jobs", content=stalled(), headers=FORM)


async def too_large(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await submit_inside(settings.model_copy(update={"max_upload_bytes": 4}))


async def no_room(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await submit_inside(settings.model_copy(update={"min_free_bytes": 2**60}))


async def locked(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(uploads, "PATIENCE_SECONDS", 0.0)
    store = UploadStore(settings.data / "store" / "uploads", 60)
    upload = new_upload_id()
    store.create("default", upload, UploadInfo(5))
    with store.hold("default", upload):
        return await ask_inside(settings, "DELETE", f"/v1/uploads/{upload}", headers=TUS)


async def fetching_already(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    settings = settings.model_copy(update={"pipelines": ("tests.http.sample:fetching",)})
    source = {"pipeline": "fetching", "source_url": "https://a.example/x.mp4"}
    return await ask_inside(settings, "POST", "/v1/jobs", json=source)


async def bug(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(Jobs, "job", None)
    return await ask_inside(settings, "GET", f"/v1/jobs/{NOBODY}")


async def rejected(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    async def refuse(*_: object, **_more: object) -> Outcome:
        return Outcome(ok=False, code="message_rejected", status="unknown", seq=0, detail="AssertionError in decide")

    patch.setattr(Jobs, "ask", refuse)
    return await submit_inside(settings)


async def away(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await submit_inside(settings.model_copy(update={"redis_url": "unix:///nowhere.sock"}))


async def full(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(wire, "MAX_MAILBOX", 0)
    answer = await submit_inside(settings)
    assert not [p for p in (settings.data / "store").rglob("*") if p.is_file()], "a file was left behind"
    return answer


async def corrupt(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    with redis.Redis.from_url(settings.journal) as journal:
        journal.hset(PartitionKeys(partition_of(NOBODY, 16)).snapshot(NOBODY), "status", '"running"')
    return await ask_inside(settings, "GET", f"/v1/jobs/{NOBODY}")


async def unready(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await ask_inside(settings, "GET", "/readyz")


async def keyless(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await ask_inside(settings.model_copy(update={"auth": "keys"}), "GET", "/v1/jobs")


async def not_allowed(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    with redis.Redis.from_url(settings.journal) as journal:
        _, secret = KeyStore(journal).create("acme", ("read",))
    guarded = settings.model_copy(update={"auth": "keys"})
    return await ask_inside(guarded, "POST", "/v1/jobs", headers={"X-API-Key": secret})


async def too_often(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    slow = settings.model_copy(update={"rate_per_second": 0.001, "rate_burst": 1})
    assert (await ask_inside(slow, "GET", "/v1/jobs")).status_code == 200
    return await ask_inside(slow, "GET", "/v1/jobs")


async def too_many(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    with redis.Redis.from_url(settings.journal) as journal:
        journal.zadd(PartitionKeys(3).index("default"), {NOBODY: 1})
    return await submit_inside(settings.model_copy(update={"max_stored_jobs": 1}))


async def over_quota(settings: Settings, _patch: pytest.MonkeyPatch) -> httpx.Response:
    return await submit_inside(settings.model_copy(update={"quota_bytes": 4}))


def refused_as(code: str) -> Provoke:
    """Asking for a webhook again, of an owner that refuses it like this: tests/jobs says when it does."""

    async def ask(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
        async def refuse(*_: object, **_more: object) -> Outcome:
            return Outcome(ok=False, code=code, status="completed", seq=9)

        job = (await submit_inside(settings)).headers["location"]
        patch.setattr(Jobs, "ask", refuse)
        return await ask_inside(settings, "POST", f"{job}/webhooks/redeliver")

    return ask


INSIDE: dict[str, Provoke] = {
    "webhook_under_way": refused_as("webhook_under_way"),
    "redelivered_too_often": refused_as("redelivered_too_often"),
    "unauthorized": keyless,
    "forbidden": not_allowed,
    "rate_limited": too_often,
    "too_many_jobs": too_many,
    "quota_exceeded": over_quota,
    "body_timeout": timed_out,
    "upload_too_large": too_large,
    "storage_full": no_room,
    "upload_locked": locked,
    "source_unsupported": fetching_already,
    "internal": bug,
    "message_rejected": rejected,
    "unavailable": away,
    "mailbox_full": full,
    "corrupt_record": corrupt,
    "not_ready": unready,
}


async def store_away(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await store_raising(StoreAway("no route to bucket.nowhere"), settings, patch)


async def store_wrong(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await store_raising(StoreMisconfigured("no such bucket at nowhere"), settings, patch)


async def store_raising(error: Exception, settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    def fail(*_: object) -> bool:
        raise error

    patch.setattr(FolderStore, "accept_input", fail)
    return await submit_inside(settings)


INSIDE |= {"store_unavailable": store_away, "store_misconfigured": store_wrong}


@pytest.mark.parametrize("code", INSIDE)
def test_trouble_inside_is_told_as(code: str, inside: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = asyncio.run(INSIDE[code](inside, monkeypatch))
    check(answer, code)
    assert not {"Traceback", "AssertionError", "redis", "nowhere", str(inside.data)} & set(answer.text.split())
    assert "nowhere" not in answer.text


# Told in the shape of the OpenAI API: see test_openai.py.
ELSEWHERE = {"input_refused", "job_cancelled", "job_failed", "job_takes_long", "unknown_model"}


def test_every_problem_of_the_table_was_produced_above() -> None:
    assert set(PROBLEMS) == set(LIVE) | set(INSIDE) | ELSEWHERE


def test_an_origin_that_cannot_be_read_is_a_foreign_one(client: httpx.Client, job: str) -> None:
    answer = client.post(f"/v1/jobs/{job}/cancel", headers={"Origin": "http://["})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_origin")


def test_a_server_error_says_nothing_about_its_cause() -> None:
    assert b"secret" not in Problem("internal", "secret").body()


def test_an_unwritten_job_is_shown_as_it_was_submitted(inside: Settings) -> None:
    """No host runs here: the owner does not answer, and the client is told where to look."""
    answer = asyncio.run(submit_inside(inside))
    job = answer.json()
    assert (answer.status_code, job["status"], job["seq"], answer.headers["etag"]) == (202, "queued", 0, '"0"')
    again = asyncio.run(ask_inside(inside, "GET", answer.headers["location"]))
    assert (again.status_code, again.json()["id"], again.json()["input"]) == (200, job["id"], job["input"])
    (listed,) = asyncio.run(ask_inside(inside, "GET", "/v1/jobs?status=queued")).json()["jobs"]
    assert (listed["id"], listed["seq"], listed["input"]) == (job["id"], 0, job["input"])
    cancel = asyncio.run(ask_inside(inside, "POST", f"{answer.headers['location']}/cancel"))
    assert (cancel.status_code, cancel.headers["location"]) == (202, answer.headers["location"])
    events = asyncio.run(ask_inside(inside, "GET", f"{answer.headers['location']}/events"))
    assert events.json() == {"events": [], "next_after": 0}


def test_the_live_log_has_no_traceback(api: Api) -> None:
    assert "Traceback" not in Path(api.log).read_text()
