"""What a submission says beside its input: the same in a form and in JSON."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from callsheet.actors.pipelines import Pipelines
from callsheet.actors.stages.sources import why_forbidden
from callsheet.actors.webhooks.signing import WebhookSecretError, key_of
from callsheet.http.problems import Problem
from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import InputRef
from callsheet.jobs.messages import Submit
from callsheet.pipelines.declare import Pipeline


class Fields:
    """The pipeline, its params, where to call back: taken as they come, checked as soon as they can be.

    `allowed`: exact `host:port` that a callback may lead to wherever they are. `callback_secret` goes another way than
    the rest, since no message holds it.
    """

    def __init__(self, pipelines: Pipelines, allowed: Collection[str] = ()) -> None:
        self._pipelines = pipelines
        self._allowed = allowed
        self._pipeline: Pipeline | None = None
        self._given: dict[str, Any] | None = None
        self._params: dict[str, Any] = {}
        self._callback_url: str | None = None
        self._head: bytes | None = None
        self.callback_secret: str | None = None

    def choose(self, pipeline: str) -> None:
        """Take the pipeline of that name. Raises Problem."""
        self._pipeline = pipeline_named(self._pipelines, pipeline)

    def give(self, params: dict[str, Any]) -> None:
        """Take the params."""
        self._given = params

    def call_back(self, url: str) -> None:
        """Take the address that is to be told of the job's ends. Raises Problem."""
        if url and (why := why_forbidden(url, self._allowed)) is not None:
            raise Problem("url_forbidden", f"callback_url: {why}")
        self._callback_url = url or None

    def sign_with(self, secret: str) -> None:
        """Take the secret that is to sign what that address is told. Raises Problem."""
        try:
            self.callback_secret = secret if secret and key_of(secret) else None
        except WebhookSecretError as error:
            raise Problem("invalid_field", f"callback_secret: {error}") from None

    def look(self, head: bytes) -> None:
        """See how the input begins. Raises Problem if it is plainly none for the pipeline, and see `check`."""
        self._head = head
        self.check()

    def check(self, *, whole: bool = False) -> None:
        """Raise Problem for a mistake in what came so far; params may still come unless it is the `whole`."""
        if self._pipeline is None:
            return
        if whole or self._given is not None:
            self._params = checked_params(self._pipeline, self._given or {})
        why = self._pipeline.refuses(self._head) if self._pipeline.refuses and self._head else None
        if why is not None:
            raise Problem("unsupported_container", why)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline. Raises Problem without one."""
        if self._pipeline is None:
            raise Problem("missing_part", "a submission names its 'pipeline'")
        return self._pipeline

    @property
    def graph(self) -> tuple[StageSpec, ...]:
        """The graph of a job with these params. Raises Problem."""
        self.check(whole=True)
        return self.pipeline.graph(self._params)

    def submission(
        self, job: str, tenant: str, file: InputRef, identity: tuple[Any, ...], graph: tuple[StageSpec, ...] = ()
    ) -> Submit:
        """It all, as a message. `identity` is what tells the input from others as the client sent it; `graph` is the
        pipeline's unless given. Raises Problem."""
        pipeline = self.pipeline
        self.check(whole=True)
        if self.callback_secret and not self._callback_url:
            raise Problem("missing_part", "a 'callback_secret' needs a 'callback_url'")
        told = (self._callback_url, self.callback_secret) if self._callback_url else ()
        return Submit(
            job=job,
            tenant=tenant,
            pipeline=pipeline.name,
            params=self._params,
            graph=graph or self.graph,
            input=file,
            fingerprint=fingerprint(pipeline.name, self._params, *identity, *told),
            callback_url=self._callback_url,
            callback_own_secret=self.callback_secret is not None,
        )


def pipeline_named(pipelines: Pipelines, name: str) -> Pipeline:
    """The pipeline of that name. Raises Problem."""
    if (pipeline := pipelines.get(name.strip())) is None:
        raise Problem("unknown_pipeline", f"there are: {', '.join(pipelines)}")
    return pipeline


def checked_params(pipeline: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the pipeline takes them, every default filled in. Raises Problem."""
    known = [field.encode_name for field in msgspec.structs.fields(pipeline.params)]
    if unknown := sorted(given.keys() - set(known)):
        there_are = ", ".join(known) or "none"
        raise Problem("invalid_params", f"there is no such parameter: /{unknown[0][:100]}; there are: {there_are}")
    try:
        params: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, pipeline.params, strict=True))
    except msgspec.ValidationError as error:
        raise Problem("invalid_params", _with_pointer(str(error)) + _choices(pipeline, str(error))) from None
    return params


def _choices(pipeline: Pipeline, error: str) -> str:
    """What a parameter of few values takes, if that is what is wrong."""
    name = re.fullmatch(r"Invalid enum value .* - at `\$\.(\w+)`", error)
    if name is None:
        return ""
    schema = msgspec.json.schema(pipeline.params)
    fields = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
    values = fields.get(name[1], {}).get("enum", ())
    return f"; there are: {', '.join(map(str, values))}" if values else ""


def not_a_part(name: str, parts: Iterable[str]) -> str:
    """What to say of a part, or a member, that no submission has."""
    return f"{name[:100]!r} is not a part of a submission; there are: {', '.join(parts)}"


def _with_pointer(text: str) -> str:
    """`Expected int - at `$.a[0]`` with the place as a JSON pointer: `Expected int: /a/0`."""
    what, _, where = text.partition(" - at `$")
    pointer = where.rstrip("`").replace("[", ".").replace("]", "").replace(".", "/")
    return f"{what}: {pointer}" if pointer else what


def fingerprint(pipeline: str, params: dict[str, Any], *identity: Any) -> str:
    """What tells one submission from another under the same idempotency key."""
    return hashlib.sha256(msgspec.json.encode((pipeline, params, *identity), order="deterministic")).hexdigest()
