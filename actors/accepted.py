"""A job that was accepted, and that its owner has not written yet: what is known of it is what was submitted."""

from __future__ import annotations

from datetime import UTC, datetime

from callsheet.jobs.draft import rfc3339
from callsheet.jobs.job import Job, StageState
from callsheet.jobs.messages import Submit


def as_submitted(submission: Submit) -> Job:
    """The job as its readers get it until then; its seq is 0."""
    now = rfc3339(int(datetime.now(UTC).timestamp() * 1000))
    return Job(
        id=submission.job,
        tenant=submission.tenant,
        pipeline=submission.pipeline,
        params=submission.params,
        graph=submission.graph,
        input=submission.input,
        fingerprint=submission.fingerprint,
        status="queued",
        attempt=1,
        seq=0,
        stages={spec.name: StageState(spec.name, spec.name) for spec in submission.graph},
        created_at=now,
        updated_at=now,
    )
