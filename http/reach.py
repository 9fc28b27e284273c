"""Reaching a job: finding what a client may see of it, and asking its owner for something."""

from __future__ import annotations

import hashlib
from typing import Any

import falcon.asgi
from msgspec.structs import replace

from callsheet.actors.client import Jobs
from callsheet.actors.errors import NoAnswer
from callsheet.actors.keys import JOB_ID
from callsheet.actors.telemetry import tracing
from callsheet.actors.tenants.names import DEFAULT_TENANT
from callsheet.http.conditions import idempotency_key
from callsheet.http.problems import Problem
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Cancel, Forget, Message, Redeliver, Retry, encode_message
from callsheet.jobs.states import ABSENT, STATUSES, allowed_actions

AnyCommand = Cancel | Retry | Forget | Redeliver


def tenant_of(req: falcon.asgi.Request) -> str:
    """Whose request this is: everything it makes belongs to that tenant, and it sees nothing else."""
    tenant: str = getattr(req.context, "tenant", DEFAULT_TENANT)
    return tenant


async def find(jobs: Jobs, job_id: str, tenant: str) -> Job:
    """The job, as committed; or as submitted while its owner has not written it. Raises Problem."""
    job = await find_own(jobs, job_id, tenant)
    if job.status == "expired":
        raise Problem("job_expired")
    return job


async def find_own(jobs: Jobs, job_id: str, tenant: str) -> Job:
    """The same, even if it is only remembered. Raises Problem: a malformed id, an unknown one and another tenant's are
    the same to whoever asks."""
    job = await find_any(jobs, job_id)
    if job is None or job.tenant != tenant:
        raise Problem("not_found")
    return job


async def find_any(jobs: Jobs, job_id: str) -> Job | None:
    """The job under an id, whatever became of it."""
    return await jobs.known(job_id) if JOB_ID.match(job_id) else None


async def send(jobs: Jobs, job_id: str, message: Message, secret: str = "") -> Outcome | None:
    """Ask the job's owner. None: it did not answer in time, and will apply the message all the same. Raises
    Unavailable when it is not known whether the message arrived, MailboxFull when it did not."""
    try:
        return await jobs.ask(job_id, message, secret=secret)
    except NoAnswer:
        return None


async def command(req: falcon.asgi.Request, jobs: Jobs, job: Job, message: AnyCommand) -> Outcome | None:
    """Send what this request wants of a job: the outcome, None as in `send`; a refusal is raised as a Problem.

    Under an idempotency key the message has a name of its own, by which the owner knows it again for a day: repeated,
    it is answered and not applied; anything else under that name is refused.
    """
    tracing.link(job.origin.traceparent, job=job.id)
    key = idempotency_key(req)
    if key is None:
        return accepted(await send(jobs, job.id, message))
    message = replace(message, request=hashlib.sha256(encode_message(message)).hexdigest()[:32])
    name = hashlib.sha256(f"{job.id} {key}".encode()).hexdigest()[:32]
    try:
        outcome = await jobs.ask(job.id, message, mid=name)
    except NoAnswer:
        return None
    if outcome.request != message.request:
        raise Problem("idempotency_key_reused")
    return accepted(outcome)


def accepted(outcome: Outcome | None) -> Outcome | None:
    """The outcome, unless it is a refusal: that is raised as the Problem it is."""
    if outcome is None or outcome.ok:
        return outcome
    detail, more = outcome.detail, dict[str, Any]()
    if outcome.status in STATUSES and outcome.status != ABSENT:
        detail = detail or f"the job is {outcome.status}"
        more = {"state": outcome.status, "allowed_actions": allowed_actions(outcome.status)}
    raise Problem(outcome.code, detail, **more)
