"""The OpenAPI 3.1 document: the tables beside this and the types they name, put together.

A test walks the router: a route that no table has, or the other way round, fails it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from callsheet import __version__
from callsheet.actors.pipelines import Pipelines
from callsheet.http import schemas
from callsheet.http.openapi import artifacts, audio, events, jobs, service, uploads, webhooks
from callsheet.http.openapi.model import (
    HEADERS,
    IN_PATH,
    JSON,
    OF_PROBLEMS,
    OF_SERVER,
    Answer,
    Kind,
    Named,
    Operation,
    Parameter,
    Raw,
    Table,
)
from callsheet.http.problems import PROBLEMS
from callsheet.jobs.told import WebhookPayload

TABLES: tuple[Table, ...] = (
    jobs.OPERATIONS,
    events.OPERATIONS,
    artifacts.OPERATIONS,
    uploads.OPERATIONS,
    webhooks.OPERATIONS,
    audio.OPERATIONS,
    service.OPERATIONS,
)
OPERATIONS: Table = {route: operation for table in TABLES for route, operation in table.items()}
TAGS = {
    "jobs": "Submit, read, cancel, retry, forget.",
    "events": "History, and live feeds that lose nothing over a reconnect.",
    "artifacts": "The files that a job has made.",
    "uploads": "Files that come in pieces, over as many connections as it takes: tus 1.0.",
    "webhooks": "Each end of a job, told to an address of yours.",
    "audio": "Transcriptions for clients of the OpenAI API.",
    "pipelines": "What may be run.",
    "service": "The service itself.",
}
_ABOUT = (
    "Submit audio or video, watch every step, cancel, retry from any stage, take the artifacts. Each job has one "
    "owner; its events are numbered, and that number is its ETag and the cursor of its feeds. What can be read with "
    "GET can be asked about with HEAD. Each answer has an `X-Request-ID`: yours, if it is plain. Problems are RFC "
    "9457, with a `code` that does not change."
)
_REF = "#/components/schemas/{name}"
_IN_PATH = re.compile(r"{(\w+)}")


def openapi(pipelines: Pipelines, *, needs_keys: bool = False) -> dict[str, Any]:
    """The document for a service with these pipelines. Where it needs keys, each operation says so."""
    types = _Types([*(kind for operation in OPERATIONS.values() for kind in _kinds(operation)), WebhookPayload])
    paths: dict[str, Any] = {}
    for (method, path), operation in OPERATIONS.items():
        members = _operation(types, path, operation)
        members["security"] = _security(operation, needs_keys=needs_keys)
        paths.setdefault(path, {})[method.lower()] = members
    params = {name: pipeline.params for name, pipeline in pipelines.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Callsheet", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "webhooks": {kind: {"post": _told(types, kind)} for kind in webhooks.TOLD},
        "components": {
            "schemas": {**types.components, **jobs.pipeline_schemas(params)},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
            },
        },
    }


def _told(types: _Types, kind: str) -> dict[str, Any]:
    """What a job's `callback_url` is told."""
    return {
        "operationId": kind,
        "tags": ["webhooks"],
        "summary": webhooks.TOLD[kind],
        "description": webhooks.SIGNED,
        "parameters": [_parameter(types, parameter) for parameter in webhooks.SENT],
        "requestBody": {"required": True, "content": {JSON: {"schema": types.schema(WebhookPayload)}}},
        "responses": {"2XX": {"description": "It has arrived. Anything else, and it comes again."}},
    }


def parameters(path: str, operation: Operation) -> list[Parameter]:
    """All parameters of an operation: those in its path first."""
    return [*(IN_PATH[name] for name in _IN_PATH.findall(path)), *operation.takes]


class _Types:
    """The JSON Schema of each type that an operation names, as msgspec has it, and the components they refer to."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        wanted = [*dict.fromkeys(kind for kind in kinds if not isinstance(kind, Named | Raw)), schemas.Problem]
        found, self.components = msgspec.json.schema_components(wanted, ref_template=_REF)
        self._found: dict[Kind, dict[str, Any]] = dict(zip(wanted, found, strict=True))

    def schema(self, kind: Kind) -> dict[str, Any]:
        """What stands for a kind in the document."""
        match kind:
            case Named(name):
                return {"$ref": _REF.format(name=name)}
            case Raw(schema):
                return schema
            case _:
                return self._found[kind]


def _kinds(operation: Operation) -> Iterable[Kind]:
    yield from operation.body.values()
    yield from (parameter.kind for parameter in (*operation.takes, *IN_PATH.values()))
    yield from (kind for answer in operation.answers.values() for kind in answer.content.values())
    yield from (kind for kind, _ in HEADERS.values())


def _operation(types: _Types, path: str, operation: Operation) -> dict[str, Any]:
    members: dict[str, Any] = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        members["description"] = operation.description
    members["parameters"] = [_parameter(types, parameter) for parameter in parameters(path, operation)]
    if operation.body:
        content = {name: {"schema": types.schema(kind)} for name, kind in operation.body.items()}
        members["requestBody"] = {"required": operation.body_required, "content": content}
    answers = {str(status): _answer(types, answer) for status, answer in operation.answers.items()}
    refusals = {str(status): _refusal(types, codes) for status, codes in sorted(operation.refusals().items())}
    # Where an operation tells its problems in a way of its own, that counts.
    members["responses"] = dict(sorted((OF_SERVER | refusals | answers).items()))
    if operation.example:
        members["x-codeSamples"] = [{"lang": "Shell", "source": curl(operation)}]
    return members


def curl(operation: Operation, url: str = "http://127.0.0.1:8080") -> str:
    """The operation's example as a command."""
    return "curl -s " + operation.example.format(url=url)


def _security(operation: Operation, *, needs_keys: bool) -> list[dict[str, list[str]]]:
    """A key with the scope, however it is sent; or none, where none is needed."""
    if operation.scope is None:
        return []
    ways: list[dict[str, list[str]]] = [{"bearer": [operation.scope]}, {"apiKey": [operation.scope]}]
    return ways if needs_keys else [*ways, {}]


def _parameter(types: _Types, parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": types.schema(parameter.kind),
    }


def _answer(types: _Types, answer: Answer) -> dict[str, Any]:
    members: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        members["headers"] = {name: _header(types, name) for name in answer.headers}
    if answer.content:
        members["content"] = {name: {"schema": types.schema(kind)} for name, kind in answer.content.items()}
    if answer.job_at:
        members["links"] = _links(answer.job_at)
    return members


def _header(types: _Types, name: str) -> dict[str, Any]:
    kind, text = HEADERS[name]
    return {"description": text, "schema": types.schema(kind)}


def _links(job_at: str) -> dict[str, Any]:
    """From an answer that holds a job to everything that can be done with it."""
    value = {"job_id": f"$response.body#{job_at}"}
    ours = [op.id for (_, path), op in OPERATIONS.items() if _IN_PATH.findall(path) == ["job_id"]]
    return {name: {"operationId": name, "parameters": value} for name in ours}


def _refusal(types: _Types, codes: list[str]) -> dict[str, Any]:
    lines = [f"`{code}`: {PROBLEMS[code][1]}." for code in codes]
    schema = {**types.schema(schemas.Problem), "properties": {"code": {"enum": codes}}}
    members: dict[str, Any] = {
        "description": "\n".join(lines),
        "content": {"application/problem+json": {"schema": schema}},
    }
    if names := OF_PROBLEMS.get(PROBLEMS[codes[0]][0]):
        members["headers"] = {name: _header(types, name) for name in names}
    return members
