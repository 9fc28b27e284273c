"""The page at /try: the jobs there are, and a form for each pipeline, made from the JSON Schema of its params, that
starts a job and shows it.

Its script speaks the API like any other client. Nothing comes from another host.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from callsheet.actors.pipelines import Pipelines
from callsheet.http.pages.docs import STYLE, digest, inline, prose
from callsheet.http.represent import pipeline_json
from callsheet.http.schemas import PipelineInfo
from callsheet.jobs.events import BODIES

# How it speaks to the service, a job, the forms, the list of jobs: each stands on those before it.
SCRIPT = "".join((Path(__file__).parent / f"{name}.js").read_text() for name in ("service", "view", "forms", "jobs"))
# The page may run this very script, which may speak to this service and show pictures that it made, and nothing else.
POLICY = (
    f"default-src 'none'; script-src '{digest(SCRIPT)}'; style-src '{digest(STYLE)}'; connect-src 'self'; "
    "img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONG_TEXT = 500  # characters: what may be longer is written in several lines
MOST_EVENTS = 300  # lines shown of a job
_KEY = "<p><label>Key <input id=key type=password autocomplete=off></label> <span class=soft>Kept nowhere.</span>"
_JOBS = (
    "<section class=jobs aria-labelledby=jobs hidden><h2 id=jobs>Jobs</h2><div><p class=soft role=status></p><table>"
    "<thead><tr><th scope=col>File<th scope=col>Pipeline<th scope=col>Status<th scope=col>Progress<th scope=col>Age"
    "</thead><tbody></tbody></table></div><template><tr><th scope=row><button type=button></button><td class=pipeline>"
    "<td class=status><td><progress max=1 aria-label=Progress></progress><td><time></time></tr></template></section>"
)
Schema = Mapping[str, Any]


def forms_page(pipelines: Pipelines, *, needs_keys: bool) -> bytes:
    """The whole page."""
    forms = "".join(_form(pipeline_json(pipeline)) for pipeline in pipelines.values())
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Callsheet: try it</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f'<style>{STYLE}</style></head><body data-events="{" ".join(BODIES)}">'
        "<h1>Try it</h1><p>Each form sends what its pipeline takes to this service, and shows the job as it runs. "
        'How a program does that: <a href="/docs">the API</a>.</p><noscript>The forms need JavaScript.</noscript>'
        f"{_KEY if needs_keys else ''}{_JOBS}{forms}<script>{SCRIPT}</script></body></html>\n"
    ).encode()


def _form(info: PipelineInfo) -> str:
    name = escape(info.name)
    known = info.params.get("$defs", {})
    shape = _plain(info.params, known)
    fields = "".join(
        _field(member, _plain(about, known), required=member in shape.get("required", ()))
        for member, about in shape.get("properties", {}).items()
    )
    opened = " open" if shape.get("required") else ""  # a browser asks for nothing that it does not show
    params = f"<details{opened}><summary>Params</summary><table>{fields}</table></details>" if fields else ""
    return (
        f'<article id="try-{name}"><header><h3>{name}</h3></header>{prose(info.description)}'
        f'<form data-pipeline="{name}"><p><label>File <input type=file name=file required></label>'
        f"{params}<p><button>Start</button></form>{_view(name)}</article>"
    )


def _view(name: str) -> str:
    """Where a job of the pipeline is shown."""
    return (
        f'<section class=job hidden tabindex=-1 aria-label="A job of {name}"><p><strong role=status></strong> '
        "<span class=file></span> <code></code><p role=alert></p><div class=whole>"
        "<progress max=1 aria-label=Progress></progress>"
        "<p><button type=button name=cancel disabled>Cancel</button> <label>Retry from <select name=stage disabled>"
        "</select></label> <button type=button name=retry disabled>Retry</button>"
        "<h4>Artifacts</h4><ul class=artifacts></ul><div class=pictures></div>"
        f"<h4>Events, the newest {MOST_EVENTS}</h4><div class=events tabindex=0 role=region aria-label=Events>"
        f"<ol data-most={MOST_EVENTS}></ol></div><h4>Result</h4><pre tabindex=0></pre></div></section>"
    )


def _plain(schema: Schema, known: Schema) -> Schema:
    """The schema that a reference stands for, or the only choice beside null, with what is said around it."""
    while "$ref" in schema or "anyOf" in schema:
        choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
        if len(choices) > 1:
            break  # of several kinds: written as JSON
        inner = choices[0] if choices else known[schema["$ref"].rpartition("/")[2]]
        outer = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf")}
        schema = {**inner, **outer}
    return schema


def _field(name: str, schema: Schema, *, required: bool) -> str:
    """One row: the control, and what the param is."""
    default = schema.get("default")
    attributes = {"name": f"param-{name}", **({"required": ""} if required else {})}
    control = _control(schema, default, attributes)
    text = inline(schema.get("description", ""))
    return f"<tr><th><label><code>{escape(name)}</code> {control}</label></th><td>{text}</td></tr>"


def _control(schema: Schema, default: Any, attributes: dict[str, str]) -> str:
    """A control whose default value is the param's: the script sends what was changed, as its kind says."""
    kind = schema.get("type")
    if "enum" in schema:
        blank = [] if default in schema["enum"] else [""]
        options = "".join(_option(value, chosen=value == default) for value in [*blank, *schema["enum"]])
        kinds = "" if all(isinstance(value, str) for value in schema["enum"]) else " data-json"
        return f"<select{kinds}{_written(attributes)}>{options}</select>"
    if kind == "boolean":
        return f"<input type=checkbox{_written(attributes | ({'checked': ''} if default else {}))}>"
    if kind in ("integer", "number"):
        limits = {"min": schema.get("minimum"), "max": schema.get("maximum"), "value": default}
        given = {name: str(value) for name, value in limits.items() if value is not None}
        step = "1" if kind == "integer" else "any"
        return f"<input type=number{_written(attributes | given | {'step': step})}>"
    if kind == "string":
        limits = {"maxlength": schema["maxLength"]} if "maxLength" in schema else {}
        given = attributes | {name: str(value) for name, value in limits.items()}
        if schema.get("maxLength", 0) <= LONG_TEXT:
            return f"<input{_written(given | {'value': default or ''})}>"
        return f"<textarea{_written(given)}>{escape(default or '')}</textarea>"
    example = next(iter(schema.get("examples", ())), None)
    hint = {"placeholder": _json(example)} if example is not None else {}
    return f"<textarea data-json{_written(attributes | hint)}>{escape(_json(default)) if default else ''}</textarea>"


def _option(value: Any, *, chosen: bool) -> str:
    return f"<option{' selected' if chosen else ''}>{escape(str(value))}</option>"


def _written(attributes: Mapping[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
