"""The snapshot of a job: what its events add up to. Frozen; only `evolve` makes the next one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from callsheet.jobs.graph import StageSpec

JobStatus = Literal["queued", "running", "cancelling", "completed", "failed", "cancelled", "expired"]
StageStatus = Literal["waiting", "dispatched", "running", "succeeded", "failed", "skipped", "stopped"]
WebhookStatus = Literal["pending", "delivered", "given_up"]

ACTIVE: frozenset[str] = frozenset({"queued", "running", "cancelling"})
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled"})


class InputRef(msgspec.Struct, frozen=True):
    """The upload as accepted: the client's name for it, its size in bytes, its digest (hex), and what a probe found.

    Of an input that comes from `source_url` size and digest are 0 and empty until the stage `fetch` has it.
    """

    filename: str
    bytes: int
    sha256: str
    media_type: str
    duration: float | None = None
    source_url: str | None = None


class FileRef(msgspec.Struct, frozen=True):
    """A published file: `folder` is the stage folder in the job's store, `name` the file in it, `sha256` hex."""

    name: str
    folder: str
    media_type: str
    bytes: int
    sha256: str
    artifact: bool = False


class Origin(msgspec.Struct, frozen=True):
    """The request that made a job: its id, and the trace that the job's spans belong to (a W3C `traceparent`)."""

    request_id: str = ""
    traceparent: str = ""


class JobError(msgspec.Struct, frozen=True):
    """Why a stage or a job failed. `code` is permanent; `retryable` says whether trying again can help."""

    code: str
    message: str
    stage: str | None = None
    retryable: bool = False


class StageState(msgspec.Struct, frozen=True):
    """One stage, or one instance `clip:3` of a fanned-out stage `clip`.

    `token` is the seq of its latest StageDispatched: the right to report. `heard` is the number of the latest report
    applied, so that a report delivered twice counts once. `attempt` is the job's attempt that last ran it.
    """

    name: str
    spec: str
    status: StageStatus = "waiting"
    attempt: int = 0
    token: int = 0
    tries: int = 0
    losses: int = 0
    heard: int = 0
    logged: int = 0
    worker: str = ""
    retry_at: str | None = None
    progress: float = 0.0
    message: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    item: Any = None
    items: tuple[Any, ...] | None = None
    outputs: tuple[FileRef, ...] = ()
    data: dict[str, Any] = {}
    result: dict[str, Any] = {}
    error: JobError | None = None


class Webhook(msgspec.Struct, frozen=True):
    """The delivery of one end of the job to its `callback_url`; `seq` and `event` are those of the terminal event.

    `tries`: those whose outcome is known, over all `requests` to deliver it again; `failures`: since the last request.
    `code` and `status_code` are of the latest try: why it failed, and what it was answered.
    """

    seq: int
    event: str
    status: WebhookStatus = "pending"
    tries: int = 0
    failures: int = 0
    requests: int = 0
    next_try_at: str | None = None
    code: str | None = None
    status_code: int | None = None
    settled_at: str | None = None


class Job(msgspec.Struct, frozen=True):
    """One run of one pipeline over one input, for one tenant. Times are RFC 3339 in UTC; `progress` is 0..1."""

    id: str
    tenant: str
    pipeline: str
    params: dict[str, Any]
    graph: tuple[StageSpec, ...]
    input: InputRef
    status: JobStatus
    attempt: int
    seq: int
    stages: dict[str, StageState]
    created_at: str
    updated_at: str
    fingerprint: str = ""
    progress: float = 0.0
    error: JobError | None = None
    expires_at: str | None = None
    callback_url: str | None = None
    callback_own_secret: bool = False
    origin: Origin = Origin()
    webhooks: tuple[Webhook, ...] = ()

    def spec(self, stage: StageState) -> StageSpec:
        """The declaration of a stage of this job."""
        return next(s for s in self.graph if s.name == stage.spec)

    def instances(self, spec: str) -> list[StageState]:
        """The stages that stand for one declared stage: itself, or each of its fan-out."""
        return [s for s in self.stages.values() if s.spec == spec]

    def settled(self, state: StageState) -> bool:
        """The stage is over, in a way with which the job goes on: it succeeded, was skipped, or failed and may fail.

        Of a fan-out that may fail, at least one instance must not have.
        """
        if state.status != "failed":
            return state.status in ("succeeded", "skipped")
        spec = self.spec(state)
        alone = spec.each is None or any(s.status != "failed" for s in self.instances(spec.name))
        return spec.may_fail and alone

    @property
    def artifacts(self) -> list[FileRef]:
        """Every artifact of the stages that succeeded, in the order of the stages."""
        done = [s for s in self.stages.values() if s.status == "succeeded"]
        return [ref for s in done for ref in s.outputs if ref.artifact]

    @property
    def result(self) -> dict[str, Any]:
        """The results of all stages merged in order (warnings add up)."""
        return joined(state.result for state in self.stages.values())


def joined(pieces: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Pieces of a result as one: lists under the same key are joined, of other values the latest counts."""
    merged: dict[str, Any] = {}
    for piece in pieces:
        for key, value in piece.items():
            both = isinstance(value, list) and isinstance(merged.get(key), list)
            merged[key] = [*merged[key], *value] if both else value
    return merged
