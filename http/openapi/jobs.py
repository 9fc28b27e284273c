"""The operations on jobs, and on what they run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from callsheet.http import schemas
from callsheet.http.jobs import MAX_PAGE, SHOWN, NoFields, RetryBody
from callsheet.http.openapi.model import (
    BODY,
    CHANGE,
    FILES,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    JOB,
    JSON,
    Answer,
    Named,
    Operation,
    Table,
    query,
)

_TAG = "jobs"
_STATUS: Any = Literal[tuple(sorted(SHOWN))]
_PAGE = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]


def _a_job(description: str, *headers: str) -> Answer:
    return Answer(description, {JSON: schemas.Job}, ("ETag", *headers), job_at="/id")


OPERATIONS: Table = {
    ("POST", "/v1/jobs"): Operation(
        id="submitJob",
        tag=_TAG,
        summary="Submit a job",
        description="As a form with the file in it, which goes straight to disk; give `pipeline` and `params` before "
        "`file`, and a mistake in them is told before the file is sent. Or as JSON, naming an upload that is finished, "
        "or an address that the file is fetched from.",
        scope="write",
        takes=(IDEMPOTENCY_KEY,),
        body={"multipart/form-data": Named("Submission"), JSON: Named("SubmissionByReference")},
        answers={202: _a_job("Accepted: from here on it is never lost.", "Location")},
        problems=(
            *("invalid_parameter", "invalid_json", "invalid_multipart", "forbidden_origin", "body_timeout"),
            *("job_expired", "body_too_large", "upload_too_large", "unsupported_media_type", "missing_part"),
            *("unexpected_part", "duplicate_part", "empty_file", "unsupported_container", "unknown_pipeline"),
            *("invalid_params", "invalid_field", "source_unsupported", "url_forbidden", "unknown_upload"),
            *("upload_incomplete", "upload_locked", "idempotency_key_reused", "message_rejected", "unavailable"),
            *("mailbox_full", "corrupt_record", "storage_full", "quota_exceeded", "too_many_jobs", *FILES),
        ),
        example="-F pipeline=transcribe -F file=@talk.mp3 {url}/v1/jobs",
    ),
    ("GET", "/v1/jobs"): Operation(
        id="listJobs",
        tag=_TAG,
        summary="List jobs, newest first",
        takes=(
            query("limit", _PAGE, "How many at most; 50 unless told."),
            query("cursor", str, "`next` of the page before."),
            query("status", _STATUS, "Only jobs of this status; a page of them may be short."),
        ),
        answers={200: Answer("A page of jobs.", {JSON: schemas.JobPage}, job_at="/jobs/0/id")},
        problems=("invalid_parameter", "invalid_cursor", "unavailable"),
        example="{url}/v1/jobs?limit=10",
    ),
    ("GET", "/v1/jobs/{job_id}"): Operation(
        id="getJob",
        tag=_TAG,
        summary="Read a job",
        takes=(IF_MATCH, IF_NONE_MATCH),
        answers={200: _a_job("The job as it is now."), 304: Answer("It has not changed.", headers=("ETag",))},
        problems=(*JOB, "invalid_parameter", "precondition_failed"),
        example="{url}/v1/jobs/$JOB",
    ),
    ("DELETE", "/v1/jobs/{job_id}"): Operation(
        id="forgetJob",
        tag=_TAG,
        summary="Forget a job",
        description="Its files go, then its record. It must have ended; cancel it first.",
        scope="write",
        takes=(IF_MATCH, IDEMPOTENCY_KEY),
        answers={
            204: Answer("It is forgotten."),
            202: _a_job("It will be; its owner has not answered yet.", "Location"),
        },
        problems=(*JOB, *CHANGE, "invalid_parameter", "job_active", "precondition_failed", "idempotency_key_reused"),
        example="-X DELETE {url}/v1/jobs/$JOB",
    ),
    ("POST", "/v1/jobs/{job_id}/cancel"): Operation(
        id="cancelJob",
        tag=_TAG,
        summary="Cancel a job",
        description="Once accepted the job never completes in this attempt, and what runs of it is killed.",
        scope="write",
        takes=(IF_MATCH, IDEMPOTENCY_KEY),
        body={JSON: NoFields},
        body_required=False,
        answers={202: _a_job("It is cancelled, or being cancelled.", "Location")},
        problems=(
            *JOB,
            *CHANGE,
            *BODY,
            "invalid_parameter",
            "job_ended",
            "precondition_failed",
            "idempotency_key_reused",
        ),
        example="-X POST {url}/v1/jobs/$JOB/cancel",
    ),
    ("POST", "/v1/jobs/{job_id}/retry"): Operation(
        id="retryJob",
        tag=_TAG,
        summary="Retry a job, from any stage",
        description="Opens the next attempt. What the stages before it have made is used again. Without `from_stage` "
        "whatever has not succeeded runs again; everything, if all has.",
        scope="write",
        takes=(IF_MATCH, IDEMPOTENCY_KEY),
        body={JSON: RetryBody},
        body_required=False,
        answers={202: _a_job("The next attempt is open.", "Location")},
        problems=(
            *(*JOB, *CHANGE, *BODY, "invalid_parameter", "job_active", "precondition_failed", "idempotency_key_reused"),
            *("unknown_stage", "unknown_pipeline", "invalid_params", "webhook_under_way", "too_many_jobs"),
        ),
        example="""--json '{{"from_stage": "artifacts"}}' {url}/v1/jobs/$JOB/retry""",
    ),
    ("GET", "/v1/pipelines"): Operation(
        id="listPipelines",
        tag="pipelines",
        summary="List pipelines",
        description="What may be run: the stages of each, and the JSON Schema of its params.",
        answers={200: Answer("All of them.", {JSON: schemas.PipelinePage})},
        example="{url}/v1/pipelines",
    ),
}


def pipeline_schemas(params: dict[str, type[Any]]) -> dict[str, Any]:
    """Components made from the pipelines on offer: the params of each, and what may be submitted."""
    components: dict[str, Any] = {}
    forms, references = [], []
    for name, kind in params.items():
        (schema,), found = msgspec.json.schema_components((kind,), ref_template=f"#/components/schemas/{name}.{{name}}")
        components |= {f"{name}.{key}": value for key, value in found.items()}
        # Whatever the type itself says, a parameter that the pipeline does not know is refused.
        components[schema["$ref"].rpartition("/")[2]]["additionalProperties"] = False
        forms.append(
            _submission(name, {**schema, "description": "As JSON."}, {"file": _FILE, **_callback("string")}, "file")
        )
        references.append(
            _submission(name, {"anyOf": [schema, {"type": "null"}]}, _REFERENCES | _callback("string", "null"))
        )
    return {**components, "Submission": {"oneOf": forms}, "SubmissionByReference": {"oneOf": references}}


_FILE = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "minLength": 1,
    "description": "The audio or video file.",
}
_REFERENCES = {
    "upload": {"type": ["string", "null"], "description": "A finished upload: its id or its path."},
    "source_url": {"type": ["string", "null"], "description": "Instead: where the file is fetched from."},
}


def _callback(*kinds: str) -> dict[str, Any]:
    """Where the job's ends are told; each of these kinds of JSON."""
    signs = "Signs what is told there; else the secret of the tenant does."
    return {
        "callback_url": {"type": list(kinds), "description": "Told of each end of the job: see docs/webhooks.md."},
        "callback_secret": {
            "type": list(kinds),
            "description": signs,
            "pattern": "^(whsec_[A-Za-z0-9+/]{32,88}={0,2})?$",
        },
    }


def _submission(name: str, params: dict[str, Any], more: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "title": name,
        "type": "object",
        "properties": {"pipeline": {"const": name}, "params": params, **more},
        "required": ["pipeline", *required],
        "additionalProperties": False,
    }
