"""A tenant's own limits as they are stored: by this version, by a newer one, or by nobody knows what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio as aioredis
import structlog
from msgspec.structs import replace

from callsheet.actors.tenants import limits as limits_module
from callsheet.actors.tenants.limits import AsyncTenants, Limits, OwnLimits, Tenants
from callsheet.actors.tenants.names import OWN_LIMITS
from tests.servers import RedisServer

USUAL = Limits(rate=1.0, burst=2, active=3, open=4, stored=5, bytes=6, reuse=True)


@pytest.fixture
def client(redis_url: str, journal_server: RedisServer) -> Iterator[Any]:
    with journal_server.client() as client:
        yield client


def test_what_a_newer_version_has_stored_beside_them_is_left_alone(client: Any) -> None:
    client.hset(OWN_LIMITS, "t1", b'{"active":7,"gpu_minutes":90}')
    tenants = Tenants(client, USUAL)
    assert tenants.limits("t1") == replace(USUAL, active=7)
    assert tenants.own() == {"t1": OwnLimits(active=7)}


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"active":"all"}', b"[]"])
def test_where_they_cannot_be_read_the_settings_count_and_that_is_told_once(
    client: Any, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "FRESH_SECONDS", 0.0)
    client.hset(OWN_LIMITS, mapping={"t1": raw, "t2": b'{"active":7}'})
    tenants = Tenants(client, USUAL)
    with structlog.testing.capture_logs() as logs:
        assert [tenants.limits("t1") for _ in range(3)] == [USUAL] * 3
        assert tenants.own() == {"t1": OwnLimits(), "t2": OwnLimits(active=7)}
    assert [(line["log_level"], line["tenant"]) for line in logs] == [("warning", "t1")]
    tenants.set("t1", OwnLimits(active=8))
    assert tenants.limits("t1").active == 8


def test_an_event_loop_reads_them_the_same(client: Any, redis_url: str) -> None:
    client.hset(OWN_LIMITS, mapping={"t1": b'{"active":7,"gpu_minutes":90}', "t2": b"{"})

    async def read() -> list[Limits]:
        async with aioredis.Redis.from_url(redis_url) as asynchronous:
            tenants = AsyncTenants(asynchronous, USUAL)
            return [await tenants.limits(tenant) for tenant in ("t1", "t2")]

    assert asyncio.run(read()) == [replace(USUAL, active=7), USUAL]
