"""The AsyncAPI 3.0 document of the feeds: what the service sends over SSE and WebSocket, and what it takes.

The events are those of jobs/events.py, the frames are types of their own; nothing is written down twice.
"""

from __future__ import annotations

from typing import Any

import msgspec

from callsheet import __version__
from callsheet.http import schemas
from callsheet.http.jobs import NoFields, RetryBody
from callsheet.http.openapi_events import AFTER, LAST_EVENT_ID

_REF = "#/components/schemas/{name}"


class CancelFrame(NoFields, tag_field="type", tag="cancel", forbid_unknown_fields=True):
    """Stop the job."""


class RetryFrame(RetryBody, tag_field="type", tag="retry", forbid_unknown_fields=True):
    """Open the job's next attempt."""


COMMANDS = (CancelFrame, RetryFrame)
MESSAGES: dict[str, type[msgspec.Struct]] = {
    **schemas.EVENTS,
    **{kind.__name__: kind for kind in (schemas.Reset, schemas.Ping, schemas.OutcomeFrame, *COMMANDS)},
}
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
            "messages": {name: _message(kind) for name, kind in MESSAGES.items()},
            "schemas": components,
        },
    }


def _channel(channel: dict[str, Any]) -> dict[str, Any]:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in channel["messages"]}
    return {**channel, "messages": messages, "description": f"{channel['description']} {_RESUMING}"}


_RESUMING = f"Resume with `?{AFTER.name}=N` (on SSE also `{LAST_EVENT_ID.name}`), N being the last `seq` that you have."


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    name = kind.__struct_config__.tag  # what `type` says
    return {"name": name, "title": name, "summary": kind.__doc__, "payload": {"$ref": _REF.format(name=kind.__name__)}}


def _operations() -> dict[str, Any]:
    """What the service does on the channels: it sends what happens, and takes commands, each with its outcome."""
    sends = {
        f"send{name[0].upper()}{name[1:]}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [
                _on(name, message) for message in channel["messages"] if message in schemas.EVENTS or message == "Reset"
            ],
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
