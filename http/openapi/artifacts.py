"""The operations on artifacts."""

from __future__ import annotations

from typing import Annotated

import msgspec

from callsheet.http import schemas
from callsheet.http.openapi.model import (
    BYTES,
    IF_MATCH,
    IF_NONE_MATCH,
    JOB,
    JSON,
    Answer,
    Operation,
    Raw,
    Table,
    header,
    query,
)

_TAG = "artifacts"
_FLAG = Annotated[int, msgspec.Meta(ge=0, le=1)]
ZIP = Raw({"contentMediaType": "application/zip"})
_FILE = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition")

OPERATIONS: Table = {
    ("GET", "/v1/jobs/{job_id}/artifacts"): Operation(
        id="listArtifacts",
        tag=_TAG,
        summary="List a job's artifacts",
        takes=(IF_MATCH, IF_NONE_MATCH),
        answers={
            200: Answer("What it has published so far.", {JSON: schemas.ArtifactPage}, ("ETag",)),
            304: Answer("You have it.", headers=("ETag",)),
        },
        problems=(*JOB, "invalid_parameter", "precondition_failed"),
        example="{url}/v1/jobs/$JOB/artifacts",
    ),
    ("GET", "/v1/jobs/{job_id}/artifacts/{name}"): Operation(
        id="getArtifact",
        tag=_TAG,
        summary="Download an artifact",
        description="Several ranges at once are not served: the answer is the whole file.",
        takes=(
            query("inline", _FLAG, "1: not as an attachment, if a browser may show the type."),
            header("Range", str, "Only these bytes, `bytes=0-1023`; whatever is no range of bytes is ignored."),
            header("If-Range", str, "Serve the range only if this is still its ETag; else the whole."),
            IF_MATCH,
            IF_NONE_MATCH,
            header("If-Modified-Since", str, "Only if it was made after that; else 304."),
        ),
        answers={
            200: Answer("The file.", {"*/*": BYTES}, _FILE),
            307: Answer("It is to be had elsewhere, at an address that holds for a while.", headers=("Location",)),
            206: Answer("The range of it.", {"*/*": BYTES}, (*_FILE, "Content-Range")),
            304: Answer("You have it.", headers=("ETag",)),
        },
        problems=(*JOB, "invalid_parameter", "precondition_failed", "range_not_satisfiable"),
        example="-O {url}/v1/jobs/$JOB/artifacts/transcript.srt",
    ),
    ("GET", "/v1/jobs/{job_id}/artifacts.zip"): Operation(
        id="getArtifacts",
        tag=_TAG,
        summary="Download all artifacts as a ZIP",
        takes=(IF_NONE_MATCH,),
        answers={
            200: Answer("It is packed while it is sent.", {"application/zip": ZIP}, ("ETag", "Content-Disposition")),
            304: Answer("You have it.", headers=("ETag",)),
        },
        problems=(*JOB, "invalid_parameter"),
        example="-O {url}/v1/jobs/$JOB/artifacts.zip",
    ),
}
