"""What a webhook says, made of nothing that changes after the event it tells of: the same at each try (I20)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from callsheet.jobs import events as e
from callsheet.jobs.job import Job

Kind = Literal["job.completed", "job.failed", "job.cancelled"]
Status = Literal["completed", "failed", "cancelled"]


class WebhookError(msgspec.Struct, frozen=True):
    """Why the job failed; `retryable`: trying again can help."""

    code: str
    message: str
    stage: str
    retryable: bool


class JobEnd(msgspec.Struct, frozen=True):
    """How an attempt of a job has ended. `seq` is the number of that event; the result is at `url`."""

    id: str
    pipeline: str
    status: Status
    attempt: int
    seq: int
    error: WebhookError | None
    created_at: str
    ended_at: str
    expires_at: str
    url: str


class WebhookPayload(msgspec.Struct, frozen=True):
    """The body of a webhook, in the shape that Standard Webhooks recommends."""

    type: Kind
    timestamp: str
    data: JobEnd


_ENDS: dict[str, tuple[Kind, Status]] = {
    "JobCompleted": ("job.completed", "completed"),
    "JobFailed": ("job.failed", "failed"),
    "JobCancelled": ("job.cancelled", "cancelled"),
}


def message_id(job: str, seq: int) -> str:
    """What names a webhook at each of its tries. Without a full stop, which delimits what is signed."""
    return f"{job}-{seq}"


def payload(job: Job, event: e.Event) -> bytes:
    """The body that tells of a terminal event of the job."""
    data: Any = event.data
    kind, status = _ENDS[event.type]
    error = None
    if isinstance(data, e.JobFailed):
        error = WebhookError(data.code, data.message, data.failed_stage, data.retryable)
    end = JobEnd(
        id=job.id,
        pipeline=job.pipeline,
        status=status,
        attempt=event.attempt,
        seq=event.seq,
        error=error,
        created_at=job.created_at,
        ended_at=event.at,
        expires_at=data.expires_at,
        url=f"/v1/jobs/{job.id}",
    )
    return msgspec.json.encode(WebhookPayload(kind, event.at, end))
