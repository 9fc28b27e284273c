"""The operations on the service itself. They ask for no key, but for figures of all tenants."""

from __future__ import annotations

from callsheet.http import schemas
from callsheet.http.jobs import NoFields
from callsheet.http.openapi.model import BODY, IF_NONE_MATCH, JSON, Answer, Kind, Operation, Raw, Table

_TAG = "service"


def _answers(name: str, summary: str, path: str, kind: Kind) -> Operation:
    answers = {200: Answer("It.", {JSON: kind})}
    return Operation(id=name, tag=_TAG, summary=summary, scope=None, answers=answers, example="{url}" + path)


def _document(name: str, summary: str, path: str, media_type: str, kind: str) -> Operation:
    """One that does not change while the service runs."""
    return Operation(
        id=name,
        tag=_TAG,
        summary=summary,
        scope=None,
        takes=(IF_NONE_MATCH,),
        answers={
            200: Answer("It.", {media_type: Raw({"type": kind})}, ("ETag",)),
            304: Answer("It has not changed.", headers=("ETag",)),
        },
        problems=("invalid_parameter",),
        example="{url}" + path,
    )


OPERATIONS: Table = {
    ("GET", "/"): _answers("index", "Where to go from here", "/", schemas.Doors),
    ("GET", "/healthz"): _answers("isAlive", "Whether the process answers", "/healthz", schemas.Status),
    ("GET", "/readyz"): Operation(
        id="isReady",
        tag=_TAG,
        summary="Whether the service can take jobs",
        scope=None,
        answers={
            200: Answer("The journal answers, every partition has an owner, files can be kept.", {JSON: schemas.Status})
        },
        problems=("not_ready",),
        example="{url}/readyz",
    ),
    ("GET", "/metrics"): Operation(
        id="metrics",
        tag=_TAG,
        summary="What the service counts, for Prometheus",
        description="Of all processes, whichever of them is asked, and of all tenants.",
        scope="admin",
        answers={200: Answer("Prometheus' text format.", {"text/plain": Raw({"type": "string"})})},
        example="{url}/metrics",
    ),
    ("POST", "/v1/tickets"): Operation(
        id="getTicket",
        tag="events",
        summary="Get a one-time ticket",
        description="For a page in a browser, which can send no header with a WebSocket or an EventSource: it connects "
        "with `?ticket=…`, once, within 30 seconds. The ticket stands for the key of this request. It is "
        "shown once: repeated, with an `Idempotency-Key` or without, the request gets another one.",
        body={JSON: NoFields},
        body_required=False,
        answers={201: Answer("It.", {JSON: schemas.Ticket})},
        problems=(*BODY, "forbidden_origin"),
        example="-X POST {url}/v1/tickets",
    ),
    ("GET", "/openapi.json"): _document("openapi", "This interface, as OpenAPI 3.1", "/openapi.json", JSON, "object"),
    ("GET", "/asyncapi.json"): _document("asyncapi", "The feeds, as AsyncAPI 3.0", "/asyncapi.json", JSON, "object"),
    ("GET", "/docs"): _document("docs", "This interface, for people", "/docs", "text/html", "string"),
    ("GET", "/try"): _document("try", "A form for each pipeline", "/try", "text/html", "string"),
}
