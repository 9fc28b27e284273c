"""What the service answers, as types: encoded as they are, and described as they are in /openapi.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec

from callsheet.jobs.events import BODIES
from callsheet.jobs.job import JobError, JobStatus, StageStatus
from callsheet.jobs.states import Action

Meta = msgspec.Meta
JobId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="A job: 128 random bits in hex.")]
Seq = Annotated[int, Meta(ge=0, description="Number of the job's newest event; also its ETag and its feed's cursor.")]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339, in UTC.")]
Fraction = Annotated[float, Meta(ge=0, le=1, description="How far it is. Within an attempt it never falls.")]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 in hex.")]
Size = Annotated[int, Meta(ge=0, description="Size in bytes.")]


class Input(msgspec.Struct, frozen=True):
    """The file that the job is about. Of one that is fetched, size and digest are 0 and empty until it is here."""

    filename: str
    bytes: Size
    sha256: Annotated[str, Meta(description="SHA-256 in hex.")]
    media_type: str
    duration: Annotated[float | None, Meta(description="Seconds, once a stage has found out.")]
    source_url: Annotated[str, Meta(description="Where it comes from.")] | msgspec.UnsetType = msgspec.UNSET


class Stage(msgspec.Struct, frozen=True):
    """One step of a job; of a stage that fans out, one instance, `clip:3`."""

    name: str
    status: StageStatus
    progress: Fraction
    message: Annotated[str, Meta(description="What it does right now, for people.")]
    started_at: Time | None
    ended_at: Time | None
    attempt: Annotated[int, Meta(ge=0, description="The job's attempt that last ran it; 0 before that.")]
    error: JobError | msgspec.UnsetType = msgspec.UNSET


class Artifact(msgspec.Struct, frozen=True):
    """A file that a stage has published. It never changes."""

    name: str
    media_type: str
    bytes: Size
    sha256: Digest
    url: Annotated[str, Meta(description="Where to get it.", extra_json_schema={"format": "uri-reference"})]


class Job(msgspec.Struct, frozen=True):
    """One run of one pipeline over one input."""

    id: JobId
    pipeline: str
    params: Annotated[dict[str, Any], Meta(description="As the pipeline takes them, every default filled in.")]
    status: JobStatus
    attempt: Annotated[int, Meta(ge=1, description="Rises by one with each retry.")]
    seq: Seq
    progress: Fraction
    stages: list[Stage]
    input: Input
    result: Annotated[dict[str, Any] | None, Meta(description="What the stages found, once the job is completed.")]
    artifacts: list[Artifact]
    error: JobError | None
    allowed_actions: Annotated[list[Action], Meta(description="What may be asked of it in this status.")]
    created_at: Time
    updated_at: Time
    expires_at: Annotated[Time | None, Meta(description="When it is forgotten; known once it has ended.")]


class JobPage(msgspec.Struct, frozen=True):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: Annotated[str | None, Meta(description="`cursor` of the next page; null on the last one.")]


class ArtifactPage(msgspec.Struct, frozen=True):
    """What a job has published so far."""

    artifacts: list[Artifact]


class PipelineInfo(msgspec.Struct, frozen=True):
    """A pipeline on offer."""

    name: str
    description: str
    stages: list[str]
    params: Annotated[dict[str, Any], Meta(description="JSON Schema of its params.")]


class PipelinePage(msgspec.Struct, frozen=True):
    """All pipelines on offer."""

    pipelines: list[PipelineInfo]


class Reset(msgspec.Struct, frozen=True, tag_field="type", tag="reset"):
    """The feed cannot go on from the cursor: here is the job as it is; what follows comes after `job.seq`."""

    job: Job


class TenantReset(msgspec.Struct, frozen=True, tag_field="type", tag="reset"):
    """The start of the feed of all jobs, or a new start where it cannot go on from the cursor: the newest jobs as they
    are. Events that are in them already may follow: `seq` tells."""

    jobs: list[Job]
    next: Annotated[str | None, Meta(description="`cursor` of the next page of `GET /v1/jobs`; null if these are all.")]
    after: Annotated[str, Meta(description="The cursor from which the feed goes on.")]


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """Nothing has happened for a while, and the connection lives."""


CommandId = Annotated[
    str | int | msgspec.UnsetType, Meta(description="What you call it, if you do: its outcome is called so, too.")
]


class EventForgotten(msgspec.Struct, frozen=True, tag_field="type"):
    """In the feed of all jobs: an event that is gone with its job."""

    job: JobId
    seq: int


class OutcomeFrame(msgspec.Struct, frozen=True, tag_field="type", tag="outcome"):
    """What came of a command. `ok` is null when nobody knows yet: it may still be applied, and the feed will tell."""

    command: Annotated[Any, Meta(description="The `type` that was sent.")]
    ok: bool | None
    code: str
    id: CommandId = msgspec.UNSET
    state: Annotated[str, Meta(description="The job's status after it.")] | msgspec.UnsetType = msgspec.UNSET
    detail: str | msgspec.UnsetType = msgspec.UNSET
    allowed_actions: list[Action] | msgspec.UnsetType = msgspec.UNSET


class Ticket(msgspec.Struct, frozen=True):
    """Stands for a key, once."""

    ticket: str
    expires_in: Annotated[int, Meta(description="Seconds.")]


class Status(msgspec.Struct, frozen=True):
    """How the service is."""

    status: Literal["ok", "ready"]


class Doors(msgspec.Struct, frozen=True):
    """Where to go from here."""

    service: Literal["callsheet"]
    version: str
    jobs: str
    pipelines: str
    health: str
    readiness: str
    docs: str
    forms: str = msgspec.field(name="try")
    openapi: str
    asyncapi: str


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused (RFC 9457). `code` does not change; `title` and `detail` are for people."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    code: str
    detail: str | msgspec.UnsetType = msgspec.UNSET
    state: Annotated[str, Meta(description="Of a refused command: the status that the job is in.")] | (
        msgspec.UnsetType
    ) = msgspec.UNSET
    allowed_actions: list[Action] | msgspec.UnsetType = msgspec.UNSET
    request_id: Annotated[str, Meta(description="From 500 on, as in `X-Request-ID`: every line of the log has it.")] | (
        msgspec.UnsetType
    ) = msgspec.UNSET


def _event_type(body: type[msgspec.Struct]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("seq", Annotated[int, Meta(ge=1, description="1, 2, 3 … of its job, without a gap.")]),
        ("at", Time),
        ("attempt", int),
        ("data", body),
        ("stage", str | msgspec.UnsetType, msgspec.UNSET),
    ]
    name, text = body.__name__, {"__doc__": body.__doc__}
    return msgspec.defstruct(f"{name}Event", fields, tag_field="type", tag=name, namespace=text, frozen=True)


# An event as it is sent, by its type: what `jobs.events.Event` holds, told apart by `type`.
EVENTS: dict[str, type[msgspec.Struct]] = {name: _event_type(body) for name, body in BODIES.items()}
Event: Any = Union[tuple(EVENTS.values())]  # noqa: UP007  a union made at run time
TenantEvent = Annotated[
    dict[str, Any],
    Meta(description="An event with the `job` it is of. `EventForgotten` stands for one that is gone with its job."),
]
TenantEventPage = msgspec.defstruct(
    "TenantEventPage",
    [
        ("events", list[TenantEvent]),
        ("next_after", Annotated[str, Meta(description="`after` of the next page.")]),
    ],
    namespace={"__doc__": "A piece of the history of all jobs: of each job in order."},
)
EventPage = msgspec.defstruct(
    "EventPage",
    [
        ("events", list[Event]),
        ("next_after", Annotated[int, Meta(ge=0, description="`after` of the next page.")]),
    ],
    namespace={"__doc__": "A piece of a job's history, in order."},
)
