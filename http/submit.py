"""`POST /v1/jobs`: from a form, or JSON, to an accepted job."""

from __future__ import annotations

from functools import partial

import falcon.asgi
import structlog
from msgspec.structs import replace

from callsheet.actors.client import Jobs
from callsheet.actors.clock import wall_clock
from callsheet.actors.errors import MailboxFull
from callsheet.actors.pipelines import Pipelines
from callsheet.actors.stores.charged import ChargedStore
from callsheet.actors.stores.uploads import UploadUnknown
from callsheet.actors.telemetry import tracing
from callsheet.config.settings import Settings
from callsheet.http.conditions import idempotency_key
from callsheet.http.fields import Fields
from callsheet.http.intake import FormIntake, Intake
from callsheet.http.limits import JobRoom
from callsheet.http.problems import Problem
from callsheet.http.reach import accepted, find_any, send, tenant_of
from callsheet.http.references import ReferenceIntake
from callsheet.http.request_ids import request_id
from callsheet.http.threads import unbroken
from callsheet.http.uploads.resources import Uploads
from callsheet.jobs.job import Job, Origin
from callsheet.jobs.messages import Submit
from callsheet.jobs.rules import as_submitted

log = structlog.get_logger("api")


class Submitting:
    """Accepts submissions."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        store: ChargedStore,
        pipelines: Pipelines,
        *,
        uploads: Uploads,
        room: JobRoom,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._store = store
        self._pipelines = pipelines
        self._uploads = uploads
        self._room = room

    async def submit(self, req: falcon.asgi.Request, intake: Intake | None = None) -> Job:
        """The job that this request makes, or has made before under the same idempotency key. Raises Problem."""
        fields = Fields(self._pipelines, self._settings.allowed_addresses)
        intake = intake or self._intake(req, fields)
        key = idempotency_key(req)
        tenant = tenant_of(req)
        job = await self._jobs.job_id_for(tenant, key)
        await self._jobs.submission(job)  # if the journal is away, say so before the upload
        if key is None or await find_any(self._jobs, job) is None:
            await self._room.check(tenant, job)
        try:
            submission = replace(await intake.read(req, job, tenant), origin=_origin(req))
            if key is not None and (known := await self._known(submission)):
                await intake.taken()
                return known
            try:
                kept = await intake.keep(submission)
            except UploadUnknown:  # the same submission may have been faster, and taken it
                if key is not None and (known := await self._known(submission)):
                    return known
                raise Problem("unknown_upload") from None
            if kept is None:
                raise Problem("idempotency_key_reused")
            made = await self._enter(kept, fields.callback_secret or "", removable=key is None)
            await intake.taken()
            return made
        finally:
            await intake.discard()

    def _intake(self, req: falcon.asgi.Request, fields: Fields) -> Intake:
        """What takes a body of this type. Raises Problem."""
        media_type = (req.content_type or "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            return FormIntake(self._settings, self._store, fields)
        if media_type == "application/json":
            return ReferenceIntake(self._settings, self._store, fields, self._uploads)
        raise Problem("unsupported_media_type", "send multipart/form-data, or application/json")

    async def _known(self, submission: Submit) -> Job | None:
        """The job that this key has made already."""
        job = await find_any(self._jobs, submission.job)
        if job is None:
            return None
        if job.fingerprint != submission.fingerprint:
            raise Problem("idempotency_key_reused")
        if job.status == "expired":
            raise Problem("job_expired")
        return job

    async def _enter(self, submission: Submit, secret: str, *, removable: bool) -> Job:
        """Hand the submission to the job's owner.

        When it is certain that nobody will have it, its file goes. When Redis broke off in the middle that is not
        certain: the file stays, for the job that may come of it, or for whoever sweeps up orphans.
        """
        try:
            ask = partial(send, self._jobs, submission.job, submission, secret)
            accepted(await self._room.enter(submission.tenant, submission.job, ask))
        except (MailboxFull, Problem):
            if removable:
                await unbroken(self._store.remove_job, submission.job)
            elif known := await self._known(submission):  # the same submission was faster, and took the last place
                return known
            raise
        log.info("job accepted", job=submission.job, pipeline=submission.pipeline)
        return await self._jobs.job(submission.job) or as_submitted(submission, wall_clock())


def _origin(req: falcon.asgi.Request) -> Origin:
    return Origin(request_id(req), tracing.current())
