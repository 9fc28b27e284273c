"""The operations of the OpenAI API that are served here. Their problems have that API's shape."""

from __future__ import annotations

from typing import Any

import msgspec

from callsheet.http.openai.form import FORMATS, GRANULARITIES
from callsheet.http.openapi.model import IDEMPOTENCY_KEY, JSON, Answer, Operation, Raw, Table


class AudioError(msgspec.Struct, frozen=True):
    """Why there is no transcript. `code` is one of ours."""

    message: str
    type: str
    param: str | None
    code: str


class AudioProblem(msgspec.Struct, frozen=True):
    """A refusal as the OpenAI API tells it."""

    error: AudioError


_TAG = "audio"
_STATUSES = (400, 401, 403, 404, 408, 409, 410, 413, 415, 421, 429, 500, 503, 504, 507)
_HEARD = Raw({"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}})
_TEXT = Raw({"type": "string"})
_FORM: dict[str, Any] = {
    "file": {"type": "string", "contentMediaType": "application/octet-stream"},
    "model": {"type": "string", "description": "`whisper-1` for the default, or a model of the service by its name."},
    "language": {"type": "string", "pattern": "^[a-z]{2,3}$"},
    "prompt": {"type": "string", "description": "Names and terms to expect. The last 500 characters count."},
    "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": list(GRANULARITIES)}},
    "stream": {"type": "boolean", "default": False},
}


def _operation(id_: str, summary: str, path: str) -> Operation:
    return Operation(
        id=id_,
        tag=_TAG,
        summary=summary,
        description="For clients of the OpenAI API. A job of the pipeline `transcribe`: the header `X-Callsheet-Job` "
        "names it; the request waits for its end. A client that leaves cancels it, unless it sent `Idempotency-Key`.",
        scope="write",
        takes=(IDEMPOTENCY_KEY,),
        body={"multipart/form-data": Raw({"type": "object", "required": ["file", "model"], "properties": _FORM})},
        answers={
            200: Answer(
                "The transcript in the format that was asked for; or, streamed, as it comes.",
                {
                    JSON: _HEARD,
                    "text/plain; charset=utf-8": _TEXT,
                    "text/vtt; charset=utf-8": _TEXT,
                    "application/x-subrip": _TEXT,
                    "text/event-stream": _TEXT,
                },
            ),
            **{status: Answer("Why there is none.", {JSON: AudioProblem}) for status in _STATUSES},
        },
        example=f"-F model=whisper-1 -F file=@talk.mp3 {{url}}{path}",
    )


OPERATIONS: Table = {
    ("POST", path): _operation(id_, summary, path)
    for path, id_, summary in (
        ("/v1/audio/transcriptions", "createTranscription", "Transcribe a recording and wait for it"),
        ("/v1/audio/translations", "createTranslation", "Write in English what a recording says, and wait for it"),
    )
}
