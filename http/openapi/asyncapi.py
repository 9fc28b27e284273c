"""The AsyncAPI 3.0 document of the feeds: what the service sends over SSE and WebSocket, and what it takes.

The events are those of jobs/events.py, the frames are types of their own; nothing is written down twice.
"""

from __future__ import annotations

from typing import Any

import msgspec

from callsheet import __version__
from callsheet.http import schemas
from callsheet.http.jobs import NoFields, RetryBody
from callsheet.http.openapi.events import AFTER, LAST_EVENT_ID

_REF = "#/components/schemas/{name}"


class CancelFrame(NoFields, tag_field="type", tag="cancel", forbid_unknown_fields=True):
    """Stop the job."""

    id: schemas.CommandId = msgspec.UNSET


class RetryFrame(RetryBody, tag_field="type", tag="retry", forbid_unknown_fields=True):
    """Open the job's next attempt."""

    id: schemas.CommandId = msgspec.UNSET


COMMANDS = (CancelFrame, RetryFrame)
MESSAGES: dict[str, type[msgspec.Struct]] = {
    **schemas.EVENTS,
    **{kind.__name__: kind for kind in (schemas.Reset, schemas.Ping, schemas.OutcomeFrame, *COMMANDS)},
    **{kind.__name__: kind for kind in (schemas.TenantReset, schemas.EventForgotten)},
}
# An event in the feed of all jobs: any of them, with the job it is of.
_TENANT_EVENT = {
    "title": "TenantEvent",
    "description": "An event as in the feed of its job, and which job that is.",
    "type": "object",
    "properties": {"job": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
    "required": ["job"],
    "anyOf": [{"$ref": _REF.format(name=kind.__name__)} for kind in schemas.EVENTS.values()],
}
_ANSWERED = {schemas.OutcomeFrame.__name__, *(kind.__name__ for kind in COMMANDS)}
_EVENTS = list(schemas.EVENTS)
_CHANNELS: dict[str, dict[str, Any]] = {
    "jobEvents": {
        "address": "/v1/jobs/{job_id}/events",
        "title": "A job's events as Server-Sent Events",
        "description": "Of each event `id` is the `seq`, `event` the type, `data` the JSON. A `reset` has no id: the "
        "cursor is one that the journal does not continue from. Silence is broken by comments. After the event that "
        "ends the job the stream ends; a reconnect that would have nothing new is answered 204.",
        "messages": [*_EVENTS, "Reset"],
        "parameters": {"job_id": {"description": "Which job."}},
        "bindings": {"http": {"bindingVersion": "0.3.0"}},
    },
    "jobSocket": {
        "address": "/v1/jobs/{job_id}/ws",
        "title": "A job's events over WebSocket, and its commands back",
        "description": "One event a text frame. Frames that are no events (`reset`, `ping`, `outcome`) have no `seq`. "
        "Closed with 1000 after the end, 1012 when the server restarts (come back with `after`), 1008 for a flood, "
        "1009 for a frame that is too large, 1003 for one that is no text.",
        "messages": [*_EVENTS, "Reset", "Ping", "OutcomeFrame", *(kind.__name__ for kind in COMMANDS)],
        "parameters": {"job_id": {"description": "Which job."}},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    },
    "tenantEvents": {
        "address": "/v1/events",
        "title": "All events of all jobs as Server-Sent Events",
        "description": "Each job's events in their order; between jobs there is none. It begins with a `reset` that "
        "shows the newest jobs, and so does what cannot go on from its cursor. It ends only when you leave.",
        "messages": ["TenantEvent", "EventForgotten", "TenantReset"],
        "bindings": {"http": {"bindingVersion": "0.3.0"}},
    },
}


def asyncapi() -> dict[str, Any]:
    """The document."""
    _, components = msgspec.json.schema_components(MESSAGES.values(), ref_template=_REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Callsheet: the feeds",
            "version": __version__,
            "description": "Every watcher gets each event once, in order, and resumes where it was by the last `seq`.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(channel) for name, channel in _CHANNELS.items()},
        "operations": _operations(),
        "components": {
            "messages": {
                **{name: _message(kind.__struct_config__.tag, kind) for name, kind in MESSAGES.items()},
                "TenantEvent": _message("any event", _TENANT_EVENT),
            },
            "schemas": {**components, "TenantEvent": _TENANT_EVENT},
        },
    }


def _channel(channel: dict[str, Any]) -> dict[str, Any]:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in channel["messages"]}
    return {**channel, "messages": messages, "description": f"{channel['description']} {_RESUMING}"}


_RESUMING = (
    f"Resume with `?{AFTER.name}=` (on SSE also `{LAST_EVENT_ID.name}`) and the last `seq`, or `id`, that you have."
)


def _message(name: Any, kind: Any) -> dict[str, Any]:
    """A message, by what its `type` says; `kind` is the type of its payload, or the schema."""
    told = kind if isinstance(kind, dict) else {"title": kind.__name__, "description": kind.__doc__}
    payload = {"$ref": _REF.format(name=told["title"])}
    return {"name": name, "title": name, "summary": told["description"], "payload": payload}


def _operations() -> dict[str, Any]:
    """What the service does on the channels: it sends what happens, and takes commands, each with its outcome."""
    sends = {
        f"send{name[0].upper()}{name[1:]}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [_on(name, message) for message in channel["messages"] if message not in _ANSWERED],
        }
        for name, channel in _CHANNELS.items()
    }
    takes = {
        "takeCommands": {
            "action": "receive",
            "channel": {"$ref": "#/channels/jobSocket"},
            "messages": [_on("jobSocket", kind.__name__) for kind in COMMANDS],
            "reply": {
                "channel": {"$ref": "#/channels/jobSocket"},
                "messages": [_on("jobSocket", schemas.OutcomeFrame.__name__)],
            },
        }
    }
    return sends | takes


def _on(channel: str, message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}
