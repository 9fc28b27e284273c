"""Keys are shown once and kept as digests; a revoked one counts no more; a ticket stands for a key once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio as aioredis

from callsheet.actors.tenants import keyring as keyring_module
from callsheet.actors.tenants.keyring import ApiKey, Keyring, KeyStore
from callsheet.actors.tenants.names import API_KEYS, ticket
from tests.actors.kit import everything
from tests.servers import RedisServer


@pytest.fixture
def client(redis_url: str, journal_server: RedisServer) -> Iterator[Any]:
    with journal_server.client() as client:
        yield client


async def shown(redis_url: str, *secrets: str) -> list[ApiKey | None]:
    async with aioredis.Redis.from_url(redis_url) as client:
        keyring = Keyring(client)
        return [await keyring.key(secret) for secret in secrets]


def test_who_shows_a_key_is_known_by_it_and_nobody_else_is(client: Any, redis_url: str) -> None:
    store = KeyStore(client)
    first, secret = store.create("acme", ("write", "read"), "for the camera")
    second, other = store.create("other", ("admin",))
    wrong = f"csk_{'A' * 43}"
    assert asyncio.run(shown(redis_url, secret, other, wrong, "", "csk_", secret + "x")) == [
        first,
        second,
        None,
        None,
        None,
        None,
    ]
    assert (first.tenant, first.scopes, first.name) == ("acme", ("read", "write"), "for the camera")
    assert {key.id for key in store.list()} == {first.id, second.id}


def test_what_is_kept_lets_nobody_in(client: Any) -> None:
    key, secret = KeyStore(client).create("acme", ("read",))
    kept = client.hget(API_KEYS, key.id)
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in kept
    assert secret.encode() not in b"".join(repr(value).encode() for value in everything(client).values())
    assert len(secret) >= 4 + 43  # 256 bits


def test_a_guess_is_compared_with_every_key_wherever_it_is_found(
    client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [KeyStore(client).create("acme", ("read",))[1] for _ in range(5)]
    compared: list[str] = []
    compare = hmac.compare_digest

    def counting(one: str, other: str) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for secret, times in [(made[0], 1), (made[2], 1), (made[4], 1), (f"csk_{'A' * 43}", 2)]:
        compared.clear()
        asyncio.run(shown(redis_url, secret))
        assert len(compared) == 5 * times


def test_a_revoked_key_counts_no_more_once_it_is_looked_up_again(client: Any, redis_url: str) -> None:
    key, secret = KeyStore(client).create("acme", ("read",))

    async def scenario() -> tuple[ApiKey | None, ApiKey | None]:
        async with aioredis.Redis.from_url(redis_url) as aclient:
            keyring = Keyring(aclient)
            before = await keyring.key(secret)
            assert KeyStore(client).revoke(key.id)
            keyring._read_at -= 2.0  # two seconds later
            return before, await keyring.key(secret)

    assert asyncio.run(scenario()) == (key, None)
    assert not KeyStore(client).revoke(key.id)


def test_a_ticket_stands_for_its_key_once_and_not_for_long(client: Any, redis_url: str) -> None:
    store = KeyStore(client)
    key, _ = store.create("acme", ("read",))

    async def scenario() -> list[ApiKey | None]:
        async with aioredis.Redis.from_url(redis_url) as aclient:
            keyring = Keyring(aclient)
            issued = await keyring.issue_ticket(key.id)
            name = ticket(keyring_module.digest_of(issued))
            assert 0 < client.ttl(name) <= 30
            many = await asyncio.gather(*(keyring.redeem(issued) for _ in range(8)))
            orphan = await keyring.issue_ticket(key.id)
            store.revoke(key.id)
            keyring._read_at -= 2.0
            return [*many, await keyring.redeem(orphan), await keyring.redeem("cst_" + "A" * 43)]

    answers = asyncio.run(scenario())
    assert [answer for answer in answers if answer] == [key]
    assert answers[-2:] == [None, None]


@pytest.mark.parametrize("tenant", ["", "Acme", "a b", "../x", "a" * 65, "-a", "a{}", "a\n"])
def test_a_tenant_has_a_plain_name(client: Any, tenant: str) -> None:
    with pytest.raises(ValueError, match="no name of a tenant"):
        KeyStore(client).create(tenant, ("read",))


def test_there_are_only_so_many_keys(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "MAX_KEYS", 2)
    for _ in range(2):
        KeyStore(client).create("acme", ("read",))
    with pytest.raises(ValueError, match="revoke one"):
        KeyStore(client).create("acme", ("read",))
