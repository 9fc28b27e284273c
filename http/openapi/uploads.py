"""The operations on uploads: tus 1.0.0."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from callsheet.http.openapi.model import IDEMPOTENCY_KEY, Answer, Operation, Parameter, Raw, Table, header
from callsheet.http.uploads.tus import BODY_TYPE, CHECKSUMS, MAX_METADATA, MAX_NUMBER

_TAG = "uploads"
_COUNT = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
_BYTES = {BODY_TYPE: Raw({"contentMediaType": BODY_TYPE})}
_VERSION = Parameter("Tus-Resumable", "header", Literal["1.0.0"], "The version of the protocol.", required=True)
_OFFSET = Parameter("Upload-Offset", "header", _COUNT, "Where these bytes go: as many as are there.", required=True)
_LENGTH = header("Upload-Length", _COUNT, "Of the whole upload, in bytes.")
_CHECKSUM = header("Upload-Checksum", str, f"Of the bytes sent, `sha256 <Base64>`; takes {', '.join(CHECKSUMS)}.")
_STATE = ("Tus-Resumable", "Upload-Offset", "Upload-Expires")
_ANY = ("unsupported_version", "invalid_parameter", "not_found", "upload_locked")
_RECEIVE = (
    *("forbidden_origin", "body_timeout", "unsupported_media_type", "offset_mismatch", "checksum_mismatch"),
    *("upload_too_large", "quota_exceeded", "storage_full", "unavailable"),
)
_CAN = Answer(
    "It is in the headers.", headers=("Allow", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size")
)

OPERATIONS: Table = {
    ("OPTIONS", "/v1/uploads"): Operation(
        id="describeUploads", tag=_TAG, summary="What this server can do", answers={204: _CAN}
    ),
    ("POST", "/v1/uploads"): Operation(
        id="createUpload",
        tag=_TAG,
        summary="Begin an upload that can be resumed",
        description="Any tus 1.0 client does this: creation, creation-with-upload, creation-defer-length, "
        "termination, checksum, expiration. The file is then submitted by its id, the end of `Location`.",
        scope="write",
        takes=(
            _VERSION,
            _LENGTH,
            header("Upload-Defer-Length", Literal["1"], "Instead of `Upload-Length`: it comes later."),
            header(
                "Upload-Metadata",
                Annotated[str, msgspec.Meta(max_length=MAX_METADATA)],
                "`filename` and `filetype`, each with its value in Base64.",
            ),
            _CHECKSUM,
            IDEMPOTENCY_KEY,
        ),
        body=_BYTES,
        body_required=False,
        answers={201: Answer("It is begun.", headers=(*_STATE, "Location"))},
        problems=(*_ANY, *_RECEIVE, "idempotency_key_reused", "upload_gone"),
        example="-i -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 1000' -X POST {url}/v1/uploads",
    ),
    ("OPTIONS", "/v1/uploads/{upload_id}"): Operation(
        id="describeUpload", tag=_TAG, summary="What can be done with an upload", answers={204: _CAN}
    ),
    ("HEAD", "/v1/uploads/{upload_id}"): Operation(
        id="lookAtUpload",
        tag=_TAG,
        summary="How far an upload is",
        takes=(_VERSION,),
        answers={200: Answer("Go on at `Upload-Offset`.", headers=_STATE)},
        problems=_ANY,
        example="-I -H 'Tus-Resumable: 1.0.0' {url}/v1/uploads/$UPLOAD",
    ),
    ("PATCH", "/v1/uploads/{upload_id}"): Operation(
        id="continueUpload",
        tag=_TAG,
        summary="Go on with an upload",
        description="What has arrived is kept, however the request ends; with `Upload-Checksum` all of it or nothing.",
        scope="write",
        takes=(_VERSION, _OFFSET, _LENGTH, _CHECKSUM),
        body=_BYTES,
        answers={204: Answer("They are there.", headers=_STATE)},
        problems=(*_ANY, *_RECEIVE),
        example="-X PATCH -H 'Tus-Resumable: 1.0.0' -H 'Upload-Offset: 0' "
        f"-H 'Content-Type: {BODY_TYPE}' --data-binary @talk.mp3 {{url}}/v1/uploads/$UPLOAD",
    ),
    ("DELETE", "/v1/uploads/{upload_id}"): Operation(
        id="giveUpUpload",
        tag=_TAG,
        summary="Give an upload up",
        scope="write",
        takes=(_VERSION,),
        answers={204: Answer("It is gone.", headers=("Tus-Resumable",))},
        problems=(*_ANY, "forbidden_origin", "unavailable"),
        example="-X DELETE -H 'Tus-Resumable: 1.0.0' {url}/v1/uploads/$UPLOAD",
    ),
}
