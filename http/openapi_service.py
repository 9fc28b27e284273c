"""The operations on the service itself. They ask for no key."""

from __future__ import annotations

from callsheet.http import schemas
from callsheet.http.jobs import NoFields
from callsheet.http.openapi_model import BODY, JSON, Answer, Kind, Operation, Raw, Table

_TAG = "service"


def _page(name: str, summary: str, path: str, media_type: str, kind: Kind) -> Operation:
    return Operation(
        id=name,
        tag=_TAG,
        summary=summary,
        scope=None,
        answers={200: Answer("It.", {media_type: kind})},
        example="{url}" + path,
    )


OPERATIONS: Table = {
    ("GET", "/"): _page("index", "Where to go from here", "/", JSON, schemas.Doors),
    ("GET", "/healthz"): _page("isAlive", "Whether the process answers", "/healthz", JSON, schemas.Status),
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
    ("POST", "/v1/tickets"): Operation(
        id="getTicket",
        tag="events",
        summary="Get a one-time ticket",
        description="For a page in a browser, which can send no header with a WebSocket or an EventSource: it connects "
        "with `?ticket=…`, once, within 30 seconds. The ticket stands for the key of this request.",
        body={JSON: NoFields},
        body_required=False,
        answers={201: Answer("It.", {JSON: schemas.Ticket})},
        problems=(*BODY, "forbidden_origin"),
        example="-X POST {url}/v1/tickets",
    ),
    ("GET", "/openapi.json"): _page(
        "openapi", "This interface, as OpenAPI 3.1", "/openapi.json", JSON, Raw({"type": "object"})
    ),
    ("GET", "/asyncapi.json"): _page(
        "asyncapi", "The feeds, as AsyncAPI 3.0", "/asyncapi.json", JSON, Raw({"type": "object"})
    ),
    ("GET", "/docs"): _page("docs", "This interface, for people", "/docs", "text/html", Raw({"type": "string"})),
}
