"""A job's webhooks: how each of them fares, and having one sent again."""

from __future__ import annotations

from typing import Annotated

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.http.body import read_json
from callsheet.http.conditions import is_known, refuse_moved, seq_expected
from callsheet.http.jobs import converted
from callsheet.http.reach import command, find, tenant_of
from callsheet.http.schemas import Time
from callsheet.jobs.job import Job, WebhookStatus
from callsheet.jobs.messages import Redeliver
from callsheet.jobs.told import message_id

Meta = msgspec.Meta


class WebhookInfo(msgspec.Struct, frozen=True):
    """How the delivery of one end of the job fares."""

    id: Annotated[str, Meta(description="Its `webhook-id`, the same at each try.")]
    seq: Annotated[int, Meta(ge=1, description="The event that it tells of.")]
    event: Annotated[str, Meta(description="The type of that event.")]
    status: WebhookStatus
    tries: Annotated[int, Meta(ge=0, description="Those whose outcome is known.")]
    next_try_at: Annotated[Time | None, Meta(description="When it is tried again; null while it is being tried.")]
    code: Annotated[str | None, Meta(description="Why the latest try failed.")]
    status_code: Annotated[int | None, Meta(description="What the latest try was answered, if it was.")]
    settled_at: Annotated[Time | None, Meta(description="When it was delivered or given up.")]


class WebhookPage(msgspec.Struct, frozen=True):
    """The webhooks of a job, oldest first: of its latest ends, twenty at most."""

    webhooks: list[WebhookInfo]


class RedeliverBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a redelivery: which one, by the `seq` of its event. The latest, if it does not say."""

    seq: Annotated[int, Meta(ge=1)] | None = None


class WebhookList:
    """`/v1/jobs/{job_id}/webhooks`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """What was told, and what is still to be told."""
        job = await find(self._jobs, job_id, tenant_of(req))
        refuse_moved(req, job.seq)
        if is_known(req, str(job.seq)):
            resp.status = 304
            resp.set_header("ETag", f'"{job.seq}"')
        else:
            _put(resp, job)


class RedeliverWebhook:
    """`/v1/jobs/{job_id}/webhooks/redeliver`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """Send one again."""
        job = await find(self._jobs, job_id, tenant_of(req))
        wanted = converted(await read_json(req), RedeliverBody)
        message = Redeliver(seq=wanted.seq, if_match=seq_expected(req, job.seq))
        await command(req, self._jobs, job, message)
        resp.status = 202
        _put(resp, await self._jobs.job(job_id) or job)


def webhook_page(job: Job) -> WebhookPage:
    """A job's webhooks as their readers get them."""
    names = [name for name in WebhookInfo.__struct_fields__ if name != "id"]
    shown = [{name: getattr(webhook, name) for name in names} for webhook in job.webhooks]
    return WebhookPage([WebhookInfo(id=message_id(job.id, of["seq"]), **of) for of in shown])


def _put(resp: falcon.asgi.Response, job: Job) -> None:
    resp.content_type = "application/json"
    resp.set_header("ETag", f'"{job.seq}"')
    resp.data = msgspec.json.encode(webhook_page(job))
