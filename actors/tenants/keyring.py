"""API keys: who holds one, what it lets its holder do, and the one-time tickets that stand for one in a browser.

A key is 256 random bits, shown once, when it is made; the journal's Redis holds its SHA-256. A guess is compared with
the digests of all keys in the same time whatever it is, so that how long it takes tells nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from callsheet.actors.committer import connect
from callsheet.actors.errors import Unavailable
from callsheet.actors.tenants.names import API_KEYS, KEYS_VERSION, TENANT, ticket
from callsheet.actors.wire import unavailable

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
FRESH_SECONDS = 2.0  # how long a key that was revoked may still count
TICKET_SECONDS = 30
MAX_KEYS = 1000  # comparing with all of them takes 0.2 ms
MAX_NAME = 100
ANSWER_SECONDS = 2.0
_SECRET = re.compile(r"csk_[A-Za-z0-9_-]{43}\Z")
_TICKET = re.compile(r"cst_[A-Za-z0-9_-]{43}\Z")


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it is kept. `digest`: SHA-256 in hex of what its holder has; `created_at`: RFC 3339."""

    id: str
    tenant: str
    scopes: tuple[Scope, ...]
    name: str
    digest: str
    created_at: str

    def allows(self, scope: Scope) -> bool:
        """Whether its holder may do what needs that scope."""
        return scope in self.scopes or "admin" in self.scopes


class KeyStore:
    """Making and revoking keys. `client`: a blocking one of the journal's Redis."""

    def __init__(self, client: Any) -> None:
        self._redis = client

    def create(self, tenant: str, scopes: tuple[Scope, ...], name: str = "") -> tuple[ApiKey, str]:
        """A new key, and what its holder gets: nobody can tell it again. Raises ValueError, Unavailable."""
        if not TENANT.match(tenant):
            raise ValueError(f"{tenant[:80]!r} is no name of a tenant: take a-z, 0-9 and -._ within it, 64 at most")
        if len(name) > MAX_NAME or not (name.isprintable() or not name):
            raise ValueError(f"the name takes {MAX_NAME} printable characters at most")
        secret = f"csk_{secrets.token_urlsafe(32)}"
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        wanted = tuple(scope for scope in SCOPES if scope in scopes)
        key = ApiKey(secrets.token_hex(6), tenant, wanted, name, digest_of(secret), now)
        with unavailable():
            if self._redis.hlen(API_KEYS) >= MAX_KEYS:
                raise ValueError(f"there are {MAX_KEYS} keys already: revoke one first")
            pipe = self._redis.pipeline()
            pipe.hset(API_KEYS, key.id, msgspec.json.encode(key))
            pipe.incr(KEYS_VERSION)
            pipe.execute()
        return key, secret

    def list(self) -> list[ApiKey]:
        """All keys, the oldest first."""
        with unavailable():
            return sorted(_decoded(self._redis.hvals(API_KEYS)), key=lambda key: key.created_at)

    def revoke(self, key: str) -> bool:
        """Have the key with this id count no more; False if there is none."""
        with unavailable():
            pipe = self._redis.pipeline()
            pipe.hdel(API_KEYS, key)
            pipe.incr(KEYS_VERSION)
            return bool(pipe.execute()[0])


def nobody_has_a_key(journal: str) -> bool:
    """Whether it is known that there is no key at all. A journal that is away may hold some."""
    with connect(journal, ANSWER_SECONDS) as client, contextlib.suppress(Unavailable):
        return not KeyStore(client).list()
    return False


class Keyring:
    """Looks keys up, for an event loop. What was read counts for two seconds. `client`: asynchronous, of the journal's
    Redis."""

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._keys: list[ApiKey] = []
        self._read_at = -math.inf
        self._version: bytes | None = None

    async def key(self, secret: str) -> ApiKey | None:
        """The key that somebody shows, if there is such a one. Raises Unavailable."""
        if not _SECRET.match(secret):
            return None
        shown = digest_of(secret)
        return _matching(await self._known(), shown) or _matching(await self._newest(), shown)

    async def counts(self, key: ApiKey) -> bool:
        """Whether a key that was let in has not been revoked since. Raises Unavailable."""
        return key in await self._known()

    def latest(self, secret: str) -> ApiKey | None:
        """The key that somebody shows, if there was such a one when the keys were last read, however long ago."""
        return _matching(self._keys, digest_of(secret)) if _SECRET.match(secret) else None

    async def issue_ticket(self, key: str) -> str:
        """A ticket that stands for the key with this id ('' where none is needed), once, for 30 s."""
        secret = f"cst_{secrets.token_urlsafe(32)}"
        with unavailable():
            await self._redis.set(ticket(digest_of(secret)), key, ex=TICKET_SECONDS)
        return secret

    async def redeem(self, secret: str) -> ApiKey | None:
        """The key that a ticket stands for; from now on the ticket stands for nothing. Raises Unavailable."""
        if not _TICKET.match(secret):
            return None
        with unavailable():
            key = await self._redis.getdel(ticket(digest_of(secret)))
        keys = await self._newest()
        return next((k for k in keys if k.id == key.decode()), None) if key else None

    async def _known(self) -> list[ApiKey]:
        """All keys, as they were two seconds ago or later."""
        if time.monotonic() >= self._read_at + FRESH_SECONDS:
            return await self._newest()
        return self._keys

    async def _newest(self) -> list[ApiKey]:
        """All keys. Whoever shows one that is none costs one small question, not all keys once more."""
        with unavailable():
            now, version = time.monotonic(), await self._redis.get(KEYS_VERSION)
            if version != self._version or now >= self._read_at + FRESH_SECONDS:
                self._keys = _decoded(await self._redis.hvals(API_KEYS))
                self._read_at, self._version = now, version
        return self._keys


def _matching(keys: list[ApiKey], digest: str) -> ApiKey | None:
    """The key with that digest, after as many comparisons wherever it is."""
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def digest_of(secret: str) -> str:
    """SHA-256 in hex. A plain digest is enough: nobody guesses 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


_decoder = msgspec.json.Decoder(ApiKey)


def _decoded(found: list[bytes]) -> list[ApiKey]:
    return [_decoder.decode(raw) for raw in found]
