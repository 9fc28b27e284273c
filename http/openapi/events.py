"""The operations on events: history and live feeds. What goes over them is described in asyncapi.py."""

from __future__ import annotations

from typing import Annotated

import msgspec

from callsheet.actors.feeds.tenant_log import MAX_READ
from callsheet.http import schemas
from callsheet.http.events import MAX_PAGE, MAX_SEQ
from callsheet.http.openapi.model import JOB, JSON, Answer, Operation, Raw, Table, header, query

_TAG = "events"
_SEQ = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
AFTER = query("after", _SEQ, "Only events with a higher `seq`: those that you have not seen.")
LAST_EVENT_ID = header("Last-Event-ID", str, "Of a live feed: the same, and it counts more. An EventSource sends it.")
STREAM = Raw({"type": "string", "description": "Server-Sent Events; see /asyncapi.json."})

OPERATIONS: Table = {
    ("GET", "/v1/events"): Operation(
        id="readAllEvents",
        tag=_TAG,
        summary="Read or watch the events of all jobs",
        description="With `Accept: text/event-stream` the live feed, which does not end: each event of each job once, "
        "those of a job in order, with an `id` to come back with. Without a cursor it begins with the newest jobs as "
        "they are. Events are kept for it from the first request on, until nobody has asked for a week.",
        takes=(
            query("after", str, "A cursor: `next_after`, or the `id` of an event. Else from the oldest event kept."),
            header("Last-Event-ID", str, "Of a live feed: the same, and it counts more. An EventSource sends it."),
            query("limit", Annotated[int, msgspec.Meta(ge=1, le=MAX_READ)], "Of history: how many at most; else 100."),
        ),
        answers={
            200: Answer("History, or the live feed.", {JSON: schemas.TenantEventPage, "text/event-stream": STREAM})
        },
        problems=("invalid_cursor", "invalid_parameter", "cursor_lost"),
        example='-N -H "Accept: text/event-stream" {url}/v1/events',
    ),
    ("GET", "/v1/jobs/{job_id}/events"): Operation(
        id="readEvents",
        tag=_TAG,
        summary="Read or watch a job's events",
        description="With `Accept: text/event-stream` the live feed, which goes on until the job has ended: each event "
        "once, in order, its `id` being the `seq`. Reconnect with `Last-Event-ID` and nothing is lost.",
        takes=(
            AFTER,
            LAST_EVENT_ID,
            query("limit", Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)], "Of history: how many at most; else 500."),
        ),
        answers={
            200: Answer("History, or the live feed.", {JSON: schemas.EventPage, "text/event-stream": STREAM}),
            204: Answer("Of a live feed: the job has ended and there is nothing new. An EventSource stops."),
        },
        problems=(*JOB, "invalid_parameter"),
        example='-N -H "Accept: text/event-stream" {url}/v1/jobs/$JOB/events',
    ),
    ("GET", "/v1/jobs/{job_id}/ws"): Operation(
        id="watchJob",
        tag=_TAG,
        summary="Watch and command a job over WebSocket",
        description="The same feed, an event a text frame; `cancel` and `retry` go the other way. See /asyncapi.json.",
        takes=(AFTER,),
        answers={101: Answer("The connection speaks WebSocket from here on.")},
        problems=(*JOB, "invalid_parameter", "upgrade_required", "forbidden_origin"),
    ),
}
