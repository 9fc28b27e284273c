"""How much a tenant may ask for: requests a second, and jobs.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10: `q` requests per window of `w` seconds; `r` remain,
and in `t` seconds all of `q` are there again.
"""

from __future__ import annotations

import math

import falcon.asgi

from callsheet.actors.client import Jobs
from callsheet.actors.tenants.limits import AsyncTenants
from callsheet.actors.tenants.rate import Rates
from callsheet.http.auth import OPEN, OPERATORS
from callsheet.http.problems import Problem
from callsheet.http.reach import tenant_of
from callsheet.jobs.job import TERMINAL, Job

LATER_SECONDS = 10  # when to ask again whether another job may come


class RateGate:
    """Middleware, behind the doorkeeper: a tenant that asks too often waits. Where no keys are needed and all are the
    same tenant, each client address is counted by itself."""

    def __init__(self, rates: Rates, tenants: AsyncTenants, *, by_tenant: bool) -> None:
        self._rates = rates
        self._tenants = tenants
        self._by_tenant = by_tenant

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Count it, and say in the headers what is left. Raises Problem: rate_limited."""
        if req.path not in OPEN | OPERATORS:  # which are asked when the journal is away, and it has the limits
            resp.set_headers(await self._count(req))

    async def process_request_ws(self, req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None:
        """A handshake is a request."""
        await self._count(req)

    async def _count(self, req: falcon.asgi.Request) -> dict[str, str]:
        limits = await self._tenants.limits(tenant_of(req))
        if not limits.rate:
            return {}
        who = f"t:{tenant_of(req)}" if self._by_tenant else f"a:{req.remote_addr[:64]}"
        verdict = await self._rates.take(who, limits.rate, limits.burst)
        if verdict is None:
            return {}
        headers = {
            "RateLimit-Policy": f'"requests";q={limits.burst};w={math.ceil(limits.burst / limits.rate)}',
            "RateLimit": f'"requests";r={verdict.remaining};t={math.ceil(verdict.reset)}',
        }
        if not verdict.allowed:
            raise Problem("rate_limited", headers={**headers, "Retry-After": str(math.ceil(verdict.wait))})
        return headers


class JobRoom:
    """How many jobs a tenant may have."""

    def __init__(self, jobs: Jobs, tenants: AsyncTenants) -> None:
        self._jobs = jobs
        self._tenants = tenants

    async def check_retry(self, job: Job) -> None:
        """Raise Problem when the job's tenant may have no more that have not ended, and this one has."""
        if job.status in TERMINAL:
            await self.check(job.tenant, another=False)

    async def check(self, tenant: str, *, another: bool = True) -> None:
        """Raise Problem when the tenant has as many as it may; `another`: as many in all, too. What is being submitted
        at this very moment is not counted yet: the limits may be passed by as much as is on its way."""
        limits = await self._tenants.limits(tenant)
        if not (limits.open or limits.stored):
            return
        opened, stored = await self._jobs.count(tenant)
        if limits.open and opened >= limits.open:
            raise _too_many(f"{opened} jobs have not ended; at most {limits.open} may be open")
        if another and limits.stored and stored >= limits.stored:
            raise _too_many(f"{stored} jobs are kept, the most there may be: forget some, or wait until they expire")


def _too_many(detail: str) -> Problem:
    return Problem("too_many_jobs", detail, headers={"Retry-After": str(LATER_SECONDS)})
