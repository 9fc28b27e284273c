"""How much of the service a tenant may use: the settings' limits, unless it was given limits of its own.

Those lie in one hash in the journal's Redis. What was read counts for two seconds, so that a change soon does.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import msgspec
import structlog
from msgspec.structs import asdict, replace

from callsheet.actors.tenants.names import OWN_LIMITS, TENANT
from callsheet.actors.wire import unavailable
from callsheet.config.settings import Settings

log = structlog.get_logger("limits")
FRESH_SECONDS = 2.0
MAX_KNOWN = 1024  # tenants remembered by a process; the one read longest ago is forgotten first
MAX_TENANTS = 10_000  # with limits of their own
RATE_WITH_KEYS = 100.0


class Limits(msgspec.Struct, frozen=True):
    """What a tenant may use at most. 0 of requests a second or of jobs: any number. `reuse`: see the settings."""

    rate: float
    burst: int
    active: int
    open: int
    stored: int
    bytes: int
    reuse: bool


class OwnLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was set for one tenant; None where the settings count. A newer version may have stored more than this."""

    rate: float | None = None
    burst: int | None = None
    active: int | None = None
    open: int | None = None
    stored: int | None = None
    bytes: int | None = None
    reuse: bool | None = None


_own = msgspec.json.Decoder(OwnLimits)


def limits_of(settings: Settings) -> Limits:
    """The limits of a tenant that has none of its own."""
    rate = settings.rate_per_second
    return Limits(
        rate=(RATE_WITH_KEYS if settings.needs_keys else 0.0) if rate is None else rate,
        burst=settings.rate_burst,
        active=settings.max_active_jobs,
        open=settings.max_open_jobs,
        stored=settings.max_stored_jobs,
        bytes=int(settings.quota_bytes),
        reuse=settings.reuse,
    )


class _Known:
    """The limits that were read lately."""

    def __init__(self, usual: Limits) -> None:
        self._usual = usual
        self._known: OrderedDict[str, tuple[float, Limits]] = OrderedDict()
        self._unreadable: set[str] = set()

    def get(self, tenant: str) -> Limits | None:
        """The tenant's limits, if they were read a moment ago."""
        until, limits = self._known.get(tenant, (0.0, self._usual))
        return limits if until > time.monotonic() else None

    def put(self, tenant: str, raw: bytes | None) -> Limits:
        """Remember what was read."""
        own = _given(self.own(tenant, raw)) if raw else {}
        limits = replace(self._usual, **own) if own else self._usual
        self._known[tenant] = (time.monotonic() + FRESH_SECONDS, limits)
        self._known.move_to_end(tenant)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return limits

    def own(self, tenant: str, raw: bytes) -> OwnLimits:
        """The limits as they are stored. Those that cannot be read must not stop the tenant: the settings count."""
        try:
            own = _own.decode(raw)
        except msgspec.MsgspecError as error:
            if tenant not in self._unreadable:
                log.warning("a tenant's own limits cannot be read: the settings count", tenant=tenant, why=str(error))
            self._unreadable.add(tenant)
            return OwnLimits()
        self._unreadable.discard(tenant)
        return own


class Tenants:
    """The limits of tenants, for threads. `client`: a blocking one of the journal's Redis."""

    def __init__(self, client: Any, usual: Limits) -> None:
        self._redis = client
        self._known = _Known(usual)

    def limits(self, tenant: str) -> Limits:
        """What this tenant may use. Raises Unavailable."""
        if known := self._known.get(tenant):
            return known
        with unavailable():
            return self._known.put(tenant, self._redis.hget(OWN_LIMITS, tenant))

    def own(self) -> dict[str, OwnLimits]:
        """Every tenant that was given limits of its own, with these."""
        with unavailable():
            found = self._redis.hgetall(OWN_LIMITS)
        return {(name := tenant.decode()): self._known.own(name, raw) for tenant, raw in sorted(found.items())}

    def set(self, tenant: str, own: OwnLimits) -> None:
        """Give a tenant limits of its own, in place of those it had; with none, the settings count again."""
        if not TENANT.match(tenant):
            raise ValueError(f"{tenant[:80]!r} is no name of a tenant")
        with unavailable():
            if own == OwnLimits():
                self._redis.hdel(OWN_LIMITS, tenant)
            elif self._redis.hlen(OWN_LIMITS) >= MAX_TENANTS and not self._redis.hexists(OWN_LIMITS, tenant):
                raise ValueError(f"{MAX_TENANTS} tenants have limits of their own already")
            else:
                self._redis.hset(OWN_LIMITS, tenant, msgspec.json.encode(own))


class AsyncTenants:
    """The same for an event loop. `client`: an asynchronous one of the journal's Redis."""

    def __init__(self, client: Any, usual: Limits) -> None:
        self._redis = client
        self._known = _Known(usual)

    async def limits(self, tenant: str) -> Limits:
        """What this tenant may use. Raises Unavailable."""
        if known := self._known.get(tenant):
            return known
        with unavailable():
            return self._known.put(tenant, await self._redis.hget(OWN_LIMITS, tenant))


def _given(own: OwnLimits) -> dict[str, Any]:
    return {name: value for name, value in asdict(own).items() if value is not None}
