"""GCRA against a real server: the agreed rate, the burst, and one bucket for all processes (I22)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from callsheet.actors.tenants import rate as rate_module
from callsheet.actors.tenants.rate import Rates, Verdict
from tests.actors.kit import everything
from tests.servers import RedisServer

T = TypeVar("T")
SLOW = 0.001  # a second: within a test nothing is ever paid off


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is no server that is away."""
    monkeypatch.setattr(rate_module, "PATIENCE_SECONDS", 60.0)


def with_rates(url: str, what: Callable[[Rates, Rates], Awaitable[T]]) -> T:
    """Two clients, as two processes would have them."""

    async def scenario() -> T:
        one, two = Rates(url), Rates(url)
        try:
            return await what(one, two)
        finally:
            await one.close()
            await two.close()

    return asyncio.run(scenario())


def test_a_burst_passes_and_then_everybody_waits_for_as_long_as_one_takes(broker_url: str) -> None:
    async def scenario(one: Rates, _two: Rates) -> list[Verdict | None]:
        return [await one.take("t:a", SLOW, 3) for _ in range(4)]

    *passed, refused = with_rates(broker_url, scenario)
    assert [(v.allowed, v.remaining) for v in passed if v] == [(True, 2), (True, 1), (True, 0)]
    assert refused is not None
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert 0 < refused.wait <= 1000
    assert 2000 < refused.reset <= 3000


def test_it_holds_over_processes_and_for_each_by_itself(broker_url: str) -> None:
    async def scenario(one: Rates, two: Rates) -> tuple[int, int]:
        verdicts = await asyncio.gather(*((one, two)[n % 2].take("t:a", SLOW, 10) for n in range(60)))
        other = await two.take("t:b", SLOW, 10)
        return sum(v.allowed for v in verdicts if v), other.remaining if other else -1

    assert with_rates(broker_url, scenario) == (10, 9)


def test_what_was_paid_off_may_be_asked_for_again(broker_url: str, broker_server: RedisServer) -> None:
    async def scenario(one: Rates, _two: Rates) -> list[bool]:
        for _ in range(5):
            await one.take("t:a", SLOW, 5)
        with broker_server.client() as client:  # 2,000 s later: two of them are paid off
            client.set("cs:rate:t:a", int(client.get("cs:rate:t:a") or 0) - 2_000_500_000)
        return [v.allowed for v in [await one.take("t:a", SLOW, 5) for _ in range(3)] if v]

    assert with_rates(broker_url, scenario) == [True, True, False]


def test_a_bucket_that_is_whole_again_is_not_kept(broker_url: str, broker_server: RedisServer) -> None:
    async def scenario(one: Rates, _two: Rates) -> None:
        for n in range(50):
            await one.take(f"a:{n}", 1000.0, 5)

    with_rates(broker_url, scenario)
    with broker_server.client() as client:
        while client.exists("cs:rate:a:49"):
            assert client.pttl("cs:rate:a:49") <= 5
        assert [key for key in everything(client) if key.startswith(b"cs:rate:")] == []


def test_a_clock_that_was_set_back_lets_nobody_wait_for_hours(broker_url: str, broker_server: RedisServer) -> None:
    async def scenario(one: Rates, _two: Rates) -> Verdict | None:
        await one.take("t:a", 10.0, 5)
        with broker_server.client() as client:
            client.set("cs:rate:t:a", int(client.get("cs:rate:t:a") or 0) + 3600 * 1_000_000)
        return await one.take("t:a", 10.0, 5)

    verdict = with_rates(broker_url, scenario)
    assert verdict is not None
    assert not verdict.allowed
    assert verdict.wait <= 0.11


def test_without_its_redis_everybody_passes_and_nobody_waits_twice(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_redis("broker")

    async def scenario(one: Rates, _two: Rates) -> list[Verdict | None]:
        server.kill()
        away = [await one.take("t:a", SLOW, 1)]
        server.start()
        away += [await one.take("t:a", SLOW, 1) for _ in range(2)]  # it is not asked: that could take as long again
        one._away_until = 0.0  # a moment later
        return [*away, await one.take("t:a", SLOW, 1)]

    monkeypatch.setattr(rate_module, "PAUSE_SECONDS", 3600.0)
    *away, back = with_rates(server.url, scenario)
    assert away == [None, None, None]
    assert back is not None
    assert back.allowed
