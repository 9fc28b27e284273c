"""How much a tenant may ask for: requests a second, and jobs.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10: `q` requests per window of `w` seconds; `r` remain,
and in `t` seconds all of `q` are there again.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import falcon.asgi

from callsheet.actors.client import Jobs
from callsheet.actors.errors import MailboxFull
from callsheet.actors.tenants.limits import AsyncTenants, Limits
from callsheet.actors.tenants.places import Places
from callsheet.actors.tenants.rate import Rates
from callsheet.http.auth import OPEN, OPERATORS
from callsheet.http.problems import Problem
from callsheet.http.reach import tenant_of
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import Job

LATER_SECONDS = 10  # when to ask again whether another job may come
Ask = Callable[[], Awaitable[Outcome | None]]  # it sends a message: the owner's answer, None if there was none in time


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

    def __init__(self, jobs: Jobs, tenants: AsyncTenants, places: Places) -> None:
        self._jobs = jobs
        self._tenants = tenants
        self._places = places

    async def check(self, tenant: str, job: str) -> None:
        """Raise Problem when the tenant has as many jobs as it may, besides this one: before what is to become it is
        taken in."""
        await self._check(await self._tenants.limits(tenant), tenant, job, 0, another=True)

    async def enter(self, tenant: str, job: str, ask: Ask, *, another: bool = True) -> Outcome | None:
        """What comes of a message that opens this job, if there is room for it besides those that others open at this
        very moment; `another`: it is a new one. Raises Problem, and what `ask` does."""
        limits = await self._tenants.limits(tenant)
        if not (limits.open or limits.stored):
            return await ask()
        place, before = await self._places.take(tenant)
        try:
            await self._check(limits, tenant, job, before, another=another)
            outcome = await ask()
        except (Problem, MailboxFull):
            await self._places.give_back(tenant, place)
            raise
        if outcome is not None:  # else the job may be there any moment: the place counts until it must be
            await self._places.give_back(tenant, place)
        return outcome

    async def enter_again(self, job: Job, ask: Ask) -> Outcome | None:
        """The same of a retry: also of a job that has not ended yet, since it may have when its owner decides."""
        return await self.enter(job.tenant, job.id, ask, another=False)

    async def _check(self, limits: Limits, tenant: str, job: str, before: int, *, another: bool) -> None:
        if not (limits.open or limits.stored):
            return
        opened, stored = await self._jobs.count(tenant, besides=job)
        if limits.open and opened + before >= limits.open:
            raise _too_many(f"at most {limits.open} jobs may be open; {opened} have not ended")
        if another and limits.stored and stored + before >= limits.stored:
            raise _too_many(
                f"at most {limits.stored} jobs are kept: forget some of the {stored}, or wait until they expire"
            )


def _too_many(detail: str) -> Problem:
    return Problem("too_many_jobs", detail, headers={"Retry-After": str(LATER_SECONDS)})
