"""What a route says of itself: the words in which the tables beside this describe the operations.

A new route takes one entry in one of those tables. Its types are the ones that its code validates and encodes with;
its problems are codes of the table in problems.py; everything else follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from callsheet.http.problems import PROBLEMS
from callsheet.http.schemas import JobId

JSON = "application/json"
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"]
Scope = Literal["read", "write", "admin"]


class Named(msgspec.Struct, frozen=True):
    """A schema of the document that is made from the pipelines, not from one type: by its name."""

    name: str


class Raw(msgspec.Struct, frozen=True):
    """A schema as it is, for what no type stands for: the bytes of a file, a stream of events."""

    schema: dict[str, Any] = {}


Kind = Any  # a type, as msgspec describes it; or Named, or Raw
BYTES = Raw({"contentMediaType": "application/octet-stream"})


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter or a header, and the type that its text stands for. Without a default it is required."""

    name: str
    place: Literal["path", "query", "header"]
    kind: Kind
    description: str
    required: bool = False


class Answer(msgspec.Struct, frozen=True):
    """An answer that is no problem. `content`: the media types it may have, and what is in each.

    `job_at` is the JSON pointer of a job's id in it, from which a client goes on to the job's other operations.
    """

    description: str
    content: Mapping[str, Kind] = {}
    headers: tuple[str, ...] = ()
    example: Any = None
    job_at: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one route. `scope` is what a key needs for it; None: it asks for no key.

    `body` says what may be sent, by media type; `example` is a command that works, after `curl -s`.
    """

    id: str
    tag: str
    summary: str
    description: str = ""
    scope: Scope | None = "read"
    takes: tuple[Parameter, ...] = ()
    body: Mapping[str, Kind] = {}
    body_required: bool = True
    answers: Mapping[int, Answer]
    problems: tuple[str, ...] = ()
    example: str = ""

    def refusals(self) -> dict[int, list[str]]:
        """The codes of its problems, by status."""
        found: dict[int, list[str]] = {}
        for code in dict.fromkeys((*self.problems, *(LIMITED if self.scope else ()), "unknown_host", "internal")):
            found.setdefault(PROBLEMS[code][0], []).append(code)
        return found


LIMITED = ("unauthorized", "forbidden", "rate_limited", "unavailable")  # whatever asks for a key
Table = Mapping[tuple[Method, str], Operation]

# What is in the path of a route: by name, the same in each route.
IN_PATH: dict[str, Parameter] = {
    "job_id": Parameter("job_id", "path", JobId, "Which job.", required=True),
    "upload_id": Parameter("upload_id", "path", JobId, "Which upload.", required=True),
    "name": Parameter("name", "path", str, "Name of an artifact, as the list of artifacts has it.", required=True),
}

# Headers of answers, by name.
HEADERS: dict[str, tuple[Kind, str]] = {
    "Allow": (str, "The methods that the resource takes."),
    "Accept-Ranges": (Literal["bytes"], "Ranges may be asked for."),
    "Content-Disposition": (str, "Always an attachment; its name as in RFC 6266."),
    "Content-Range": (str, "Which bytes these are, of how many."),
    "ETag": (str, "Of a job: its `seq`, quoted; of what does not change: a digest, quoted."),
    "Last-Modified": (str, "When it was made."),
    "Location": (str, "Where it is found."),
    "RateLimit": (str, "How many requests are left, `r`, and when all are there again, in `t` seconds."),
    "RateLimit-Policy": (str, "How many requests, `q`, may be sent in `w` seconds."),
    "Retry-After": (int, "Seconds after which trying again may help."),
    "Tus-Extension": (str, "What is spoken beyond the core."),
    "Tus-Max-Size": (int, "Most bytes of one upload."),
    "Tus-Resumable": (Literal["1.0.0"], "The version of the protocol."),
    "Tus-Version": (str, "The versions that are spoken."),
    "Upload-Expires": (str, "Until when it is kept, if nothing more arrives."),
    "Upload-Offset": (int, "How many bytes are there."),
    "WWW-Authenticate": (str, "How to say who you are."),
}


def query(name: str, kind: Kind, description: str) -> Parameter:
    """An optional query parameter."""
    return Parameter(name, "query", kind, description)


def header(name: str, kind: Kind, description: str) -> Parameter:
    """An optional request header."""
    return Parameter(name, "header", kind, description)


# Entity tags are visible ASCII in quotes (RFC 9110, 8.8.3).
_Tags = Annotated[str, msgspec.Meta(pattern=r'^(\*|"[!#-~]{1,64}"(, "[!#-~]{1,64}"){0,3})$')]
IF_MATCH = header("If-Match", _Tags, "Only if this is still its ETag; else 412.")
IF_NONE_MATCH = header("If-None-Match", _Tags, "Only if this is not its ETag any more; else 304.")
IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    Annotated[str, msgspec.Meta(pattern='^([!#-~]{1,255}|"[!#-~]{1,255}")$')],
    "Your name for this request. Repeated with the same key and body within a day, it is the same job or upload.",
)

# Headers of problems, by status.
OF_PROBLEMS: dict[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}

# What any request may get before it is looked at, and in no form of ours: it is not even read to its end.
OF_SERVER = {
    "414": {"description": "The request line is longer than 4 KB."},
    "431": {"description": "A header is longer than 8 KB, or there are more than a hundred."},
}

# Groups of problems.
FILES = ("store_unavailable", "store_misconfigured")  # whatever reads or writes one
JOB = ("not_found", "job_expired", "corrupt_record", "unavailable")  # whatever looks a job up
CHANGE = ("forbidden_origin", "mailbox_full", "message_rejected")  # whatever is no GET and asks a job's owner
BODY = ("invalid_json", "body_timeout", "body_too_large", "unsupported_media_type", "invalid_field")  # JSON comes in
