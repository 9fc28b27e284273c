"""Jobs and pipelines as JSON, exactly as the contract has them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from callsheet.actors.wire import EventEntry
from callsheet.http import schemas
from callsheet.jobs.job import FileRef, InputRef, Job, StageState
from callsheet.jobs.states import allowed_actions
from callsheet.pipelines.declare import Pipeline


def job_path(job: str) -> str:
    """Where a job is found."""
    return f"/v1/jobs/{job}"


def job_json(job: Job) -> schemas.Job:
    """A job as its readers get it."""
    return schemas.Job(
        id=job.id,
        pipeline=job.pipeline,
        params=job.params,
        status=job.status,
        attempt=job.attempt,
        seq=job.seq,
        progress=job.progress,
        stages=[_stage(stage) for stage in job.stages.values()],
        input=_input(job.input),
        result=job.result if job.status == "completed" else None,
        artifacts=[artifact_json(job.id, ref) for ref in job.artifacts],
        error=job.error,
        allowed_actions=allowed_actions(job.status),
        created_at=job.created_at,
        updated_at=job.updated_at,
        expires_at=job.expires_at,
    )


def _input(file: InputRef) -> schemas.Input:
    source = file.source_url or msgspec.UNSET
    return schemas.Input(file.filename, file.bytes, file.sha256, file.media_type, file.duration, source)


def _stage(stage: StageState) -> schemas.Stage:
    return schemas.Stage(
        name=stage.name,
        status=stage.status,
        progress=stage.progress,
        message=stage.message,
        started_at=stage.started_at,
        ended_at=stage.ended_at,
        attempt=stage.attempt,
        error=stage.error or msgspec.UNSET,
    )


def artifact_json(job: str, ref: FileRef) -> schemas.Artifact:
    """An artifact as its readers get it."""
    url = f"{job_path(job)}/artifacts/{quote(ref.name, safe='')}"
    return schemas.Artifact(ref.name, ref.media_type, ref.bytes, ref.sha256, url)


def events_json(entries: Sequence[EventEntry], after: int) -> bytes:
    """A page of a job's history. Each event goes out as the journal holds it."""
    last = entries[-1].seq if entries else after
    return b'{"events":[%s],"next_after":%d}' % (b",".join(entry.raw for entry in entries), last)


def pipeline_json(pipeline: Pipeline) -> schemas.PipelineInfo:
    """A pipeline as its users get it: its stages, and the JSON Schema of its params."""
    return schemas.PipelineInfo(
        name=pipeline.name,
        description=pipeline.description,
        stages=[spec.name for spec in pipeline.specs],
        params=msgspec.json.schema(pipeline.params),
    )
