"""How many bytes a tenant has stored: a ledger in Redis, in which every upload and every published folder is an entry.

The total changes together with the entries (lua/quota.lua), so it is their sum at any moment: never negative, and
never above the limit. Setting an entry again changes nothing, so every step here may be repeated.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from callsheet.actors.errors import QuotaExceeded, Unavailable
from callsheet.actors.keys import PARTITIONS, partition_of
from callsheet.actors.tenants.limits import Limits, Tenants
from callsheet.actors.tenants.names import QuotaKeys, quota_of_job
from callsheet.actors.wire import CONNECTION, partition_keys, unavailable

HOLD_SECONDS = 6 * 3600.0  # what an upload has reserved is let go so long after it last grew; orphaned files go earlier
MAX_HELD = 1000  # uploads a tenant may have in progress
STEP = 8 * 1024 * 1024  # reserved at once, so that not every piece of an upload has to ask
INPUT = "input"
_SCRIPT = files("callsheet.actors").joinpath("lua/quota.lua").read_text()
_HELD, _OF_JOB = 2, 4


class Ledger:
    """What tenants have stored. Blocks; may be used from any thread.

    `usual`: the limits of tenants that have none of their own. While Redis is away a call waits for it up to
    `patience` seconds, then raises Unavailable.
    """

    def __init__(self, redis_url: str, usual: Limits, *, patience: float = 0.0) -> None:
        pool: Any = redis.BlockingConnectionPool.from_url(redis_url, retry=Retry(NoBackoff(), 1), **CONNECTION)
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._script = self._redis.register_script(_SCRIPT)
        self._tenants = Tenants(self._redis, usual)
        self._patience = patience

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def used(self, tenant: str) -> int:
        """The bytes that a tenant holds."""
        return int(self._patient(lambda: self._redis.get(QuotaKeys(tenant).total)) or 0)

    # -- what is on its way

    def reserve(self, tenant: str, holder: str, count: int, seconds: float = HOLD_SECONDS) -> None:
        """Have `holder` (such as `upload/<id>`) hold `count` bytes from now on, whatever it held before; it is let go
        by itself after `seconds`, unless it is reserved again. Raises QuotaExceeded; nothing has changed then.
        """
        self._set(tenant, None, [(_HELD, holder, count, int(seconds * 1000))])

    def release(self, tenant: str, holder: str) -> None:
        """Let go what a holder holds. Harmless when it holds nothing."""
        self._set(tenant, None, [(_HELD, holder, 0, "")])

    def claim(self, tenant: str, holder: str | None = None, reserved: int = 0) -> Claim:
        """A claim of one upload, by itself or on what `holder` has reserved already."""
        return Claim(self, tenant, holder or f"form/{secrets.token_hex(8)}", reserved)

    def settle(self, tenant: str, holder: str, job: str, count: int) -> None:
        """What was on its way is the input of a job now, of `count` bytes. The holder holds nothing any more."""
        self._set(tenant, job, [(_HELD, holder, 0, ""), (_OF_JOB, INPUT, count, "")])

    # -- what jobs have

    def charge(self, job: str, entry: str, count: int) -> int:
        """Have an entry of a job (its input, or a stage's folder) hold `count` bytes from now on. What it held before.
        Raises QuotaExceeded."""
        return self._set(self._tenant(job), job, [(_OF_JOB, entry, count, "")])

    def entries(self, job: str) -> dict[str, int]:
        """What a job holds, entry by entry."""
        held = self._patient(lambda: self._redis.hgetall(quota_of_job(job)))
        return {name.decode(): int(count) for name, count in held.items() if name != b"tenant"}

    def discharge(self, job: str, entries: Iterable[str]) -> None:
        """These entries of a job hold nothing any more."""
        if changes := [(_OF_JOB, entry, 0, "") for entry in entries]:
            self._set(self._tenant(job), job, changes)

    def _tenant(self, job: str) -> str:
        """Whose job it is: as the ledger has it, or as the job's own record does (tombstones included)."""
        tenant: str = self._patient(lambda: self._find_tenant(job))
        return tenant

    def _find_tenant(self, job: str) -> str:
        if known := self._redis.hget(quota_of_job(job), "tenant"):
            return str(known.decode())
        partitions = partition_keys(self._redis.get(PARTITIONS))
        raw = self._redis.hget(partitions[partition_of(job, len(partitions))].snapshot(job), "tenant")
        if raw is None:
            raise LookupError("nobody knows whose job that is")
        return msgspec.json.decode(raw, type=str)

    def _set(self, tenant: str, job: str | None, changes: list[tuple[int, str, int, Any]]) -> int:
        """Set entries; what the first one held before."""
        keys = QuotaKeys(tenant)
        names = [keys.total, keys.held, keys.until, *([quota_of_job(job)] if job else [])]
        parts = [part for change in changes for part in change]

        def ask() -> tuple[int, Any]:
            limit = self._tenants.limits(tenant).bytes
            return limit, self._script(keys=names, args=[limit, tenant, MAX_HELD, *parts])

        limit, (allowed, total, *before) = self._patient(ask)
        if allowed < 0:
            raise QuotaExceeded(f"{MAX_HELD} uploads are in progress already")
        if not allowed:
            raise QuotaExceeded(f"{total} of {limit} bytes are in use")
        return int(before[0])

    def _patient(self, ask: Callable[[], Any]) -> Any:
        trying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._patience),
            wait=wait_exponential(0.1, max=2.0),
            reraise=True,
        )
        return trying(_asked, ask)


class Claim:
    """What one upload has reserved. Not for several threads at once."""

    def __init__(self, ledger: Ledger, tenant: str, holder: str, reserved: int) -> None:
        self._ledger = ledger
        self._tenant = tenant
        self._holder = holder
        self._reserved = reserved

    def grow(self, count: int) -> None:
        """Have `count` bytes reserved, or some more, so that not every piece has to ask. Raises QuotaExceeded."""
        if count <= self._reserved:
            return
        wanted = -(-count // STEP) * STEP
        try:
            self._ledger.reserve(self._tenant, self._holder, wanted)
        except QuotaExceeded:  # there may be room for just this much
            wanted = count
            self._ledger.reserve(self._tenant, self._holder, wanted)
        self._reserved = wanted

    def settle(self, job: str, count: int) -> None:
        """The upload is the input of a job now, of `count` bytes."""
        self._ledger.settle(self._tenant, self._holder, job, count)

    def drop(self) -> None:
        """Nothing is left to reserve room for. While Redis is away it is left to itself, and goes in time."""
        with contextlib.suppress(Unavailable):
            self._ledger.release(self._tenant, self._holder)


def _asked(ask: Callable[[], Any]) -> Any:
    with unavailable():
        return ask()
