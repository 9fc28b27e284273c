"""What goes wrong inside, in an application of its own, by the code of the problem that its client is answered with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
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
from callsheet.http.uploads import resources as uploads
from callsheet.jobs.draft import Outcome
from tests.http.by_hand import FILE, FORM, PIPELINE, form
from tests.http.refusals import NOBODY, TUS

Provoke = Callable[[Settings, pytest.MonkeyPatch], Coroutine[Any, Any, httpx.Response]]


async def ask_inside(settings: Settings, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **more)


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


async def store_away(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await store_raising(StoreAway("no route to bucket.nowhere"), settings, patch)


async def store_wrong(settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await store_raising(StoreMisconfigured("no such bucket at nowhere"), settings, patch)


async def store_raising(error: Exception, settings: Settings, patch: pytest.MonkeyPatch) -> httpx.Response:
    def fail(*_: object) -> bool:
        raise error

    patch.setattr(FolderStore, "accept_input", fail)
    return await submit_inside(settings)


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
    "store_unavailable": store_away,
    "store_misconfigured": store_wrong,
}
