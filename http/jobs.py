"""Jobs: submit, list, read, forget, cancel, retry."""

from __future__ import annotations

import base64
import re
from functools import partial
from typing import Any, Literal, TypeVar

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.pipelines import Pipelines
from callsheet.http.body import read_json
from callsheet.http.conditions import (
    idempotency_key,
    is_known,
    one_of,
    refuse_moved,
    seq_expected,
    whole_number,
)
from callsheet.http.fields import checked_params
from callsheet.http.limits import JobRoom
from callsheet.http.problems import Problem
from callsheet.http.reach import command, find, find_own, tenant_of
from callsheet.http.represent import job_json, job_path
from callsheet.http.schemas import JobPage
from callsheet.http.submit import Submitting
from callsheet.jobs.job import ACTIVE, TERMINAL, Job
from callsheet.jobs.messages import Cancel, Forget, Retry

MAX_PAGE = 200
MAX_LOOKS = 20  # pages that are looked through for one that is asked for
SHOWN = ACTIVE | TERMINAL
_PLACE = re.compile(rb"(\d{1,15})\.([0-9a-f]{32})\Z")
B = TypeVar("B")


class NoFields(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a cancel."""


class RetryBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a retry: from which stage, and which parameters to change."""

    from_stage: str | None = None
    params: dict[str, Any] | None = None


class JobList:
    """`/v1/jobs`."""

    def __init__(self, jobs: Jobs, submitting: Submitting) -> None:
        self._jobs = jobs
        self._submitting = submitting

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """A page of jobs, newest first; of one status, if it is asked for. It may be short, or empty, and yet not be
        the last: so many are looked at, and no more."""
        limit = whole_number(req, "limit", 50, 1, MAX_PAGE)
        wanted = {one_of(req, "status", SHOWN)} if req.has_param("status") else SHOWN
        place, shown = _place(req.get_param("cursor")), list[Job]()
        for _ in range(MAX_LOOKS):
            page, place = await self._jobs.jobs(tenant_of(req), limit - len(shown), place)
            shown += [job for job in page if job.status in wanted]
            if place is None or len(shown) == limit:
                break
        _put(resp, JobPage([job_json(job) for job in shown], cursor_of(place)))

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Submit."""
        put_job(resp, await self._submitting.submit(req), 202)


class OneJob:
    """`/v1/jobs/{job_id}`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """The job as it is now."""
        job = await find(self._jobs, job_id, tenant_of(req))
        refuse_moved(req, job.seq)
        put_job(resp, job, 304 if is_known(req, str(job.seq)) else 200)

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """Forget it: its files, then its record. Under a key it may have been forgotten by this very request: the
        owner knows."""
        reach = find if idempotency_key(req) is None else find_own
        job = await reach(self._jobs, job_id, tenant_of(req))
        message = Forget(if_match=seq_expected(req, job.seq))
        if await command(req, self._jobs, job, message):
            resp.status = 204
        else:
            put_job(resp, job, 202)


class CancelJob:
    """`/v1/jobs/{job_id}/cancel`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """Stop the job."""
        job = await find(self._jobs, job_id, tenant_of(req))
        converted(await read_json(req), NoFields)
        await command(req, self._jobs, job, Cancel(if_match=seq_expected(req, job.seq)))
        put_job(resp, await self._jobs.job(job_id) or job, 202)


class RetryJob:
    """`/v1/jobs/{job_id}/retry`."""

    def __init__(self, jobs: Jobs, pipelines: Pipelines, room: JobRoom) -> None:
        self._jobs = jobs
        self._pipelines = pipelines
        self._room = room

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, job_id: str) -> None:
        """Open the next attempt."""
        job = await find(self._jobs, job_id, tenant_of(req))
        message = retry_message(self._pipelines, job, await read_json(req), seq_expected(req, job.seq))
        await self._room.enter_again(job, partial(command, req, self._jobs, job, message))
        put_job(resp, await self._jobs.job(job_id) or job, 202)


def retry_message(pipelines: Pipelines, job: Job, body: dict[str, Any], if_match: int | None) -> Retry:
    """The retry that a body asks for, its parameters checked together with the job's own. Raises Problem."""
    wanted = converted(body, RetryBody)
    params = None
    if wanted.params is not None:
        if (pipeline := pipelines.get(job.pipeline)) is None:
            raise Problem("unknown_pipeline", "the job's pipeline is not on offer any more")
        merged = checked_params(pipeline, {**job.params, **wanted.params})
        params = {name: merged[name] for name in wanted.params}
    return Retry(from_stage=wanted.from_stage, params=params, if_match=if_match)


def converted(members: dict[str, Any], kind: type[B]) -> B:
    """The body as that struct. Raises Problem."""
    try:
        return msgspec.convert(members, kind, strict=True)
    except msgspec.ValidationError as error:
        raise Problem("invalid_field", str(error)) from None


def put_job(resp: falcon.asgi.Response, job: Job, status: Literal[200, 202, 304]) -> None:
    """Answer with the job as it is."""
    resp.status = status
    resp.set_header("ETag", f'"{job.seq}"')
    if status == 202:
        resp.set_header("Location", job_path(job.id))
    if status != 304:
        _put(resp, job_json(job))


def _put(resp: falcon.asgi.Response, value: Any) -> None:
    resp.content_type = "application/json"
    resp.data = msgspec.json.encode(value)


def cursor_of(place: tuple[int, str] | None) -> str | None:
    """The `cursor` of the page that begins behind a place in the list; None for the end."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(b"%d.%s" % (place[0], place[1].encode())).decode().rstrip("=")


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise Problem("invalid_cursor") from None
    if (place := _PLACE.match(raw)) is None:
        raise Problem("invalid_cursor")
    return int(place[1]), place[2].decode()
