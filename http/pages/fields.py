"""The fields of a form, made from the JSON Schema of a pipeline's params: a control for what is simple, a fieldset for
an object, and for a list or a map one that takes more of the same.

What is of several kinds, of no known kind, or too deep, is written as JSON. `fields.js` reads what is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec

from callsheet.http.pages.docs import inline

LONG_TEXT = 500  # characters: what may be longer is written in several lines
DEEPEST = 5  # boxes within each other: an object may hold others of its kind
Schema = Mapping[str, Any]


def params_fields(schema: Schema) -> str:
    """The params to fill in; nothing if there are none."""
    known = schema.get("$defs", {})
    shape = _plain(schema, known)
    if not shape.get("properties"):
        return ""
    opened = " open" if shape.get("required") else ""  # a browser asks for nothing that it does not show
    return f"<details{opened}><summary>Params</summary>{_Fields(known).members(shape, 0)}</details>"


class _Fields:
    """`deep` is how many boxes a field lies in. What is `sent` goes to the service even if it was left alone."""

    def __init__(self, known: Schema) -> None:
        self._known = known

    def members(self, shape: Schema, deep: int, given: Any = None) -> str:
        """A row for each member of an object, whose value is as `given`, or else its default."""
        rows = []
        for name, about in shape["properties"].items():
            schema = _plain(about, self._known)
            if isinstance(given, Mapping) and name in given:
                schema = {**schema, "default": given[name]}
            needed = name in shape.get("required", ())
            sent = " data-sent" if needed or (deep and "default" in schema) else ""
            rows.append(self._row(name, {**schema, "needed": needed}, sent, deep))
        return f"<table role=presentation>{''.join(rows)}</table>"

    def _row(self, name: str, schema: Schema, sent: str, deep: int) -> str:
        box = self._box(name, schema, sent, deep)
        if box:
            return f"<tr><td colspan=2>{box}</td></tr>"
        text = schema.get("description", "")
        about = {"aria-description": text.replace("`", "")} if text else {}
        control = _control(schema, {"name": f"param-{name}", **about}, sent, deep)
        return f"<tr><th><label><code>{escape(name)}</code> {control}</label></th><td>{inline(text)}</td></tr>"

    def _box(self, name: str, schema: Schema, sent: str, deep: int, number: str = "") -> str:
        """The fieldset of an object, a list or a map; nothing for what is neither."""
        held = self._held(schema)
        if deep == DEEPEST or held is None:
            return ""
        kind, inner = held
        null = " data-null" if schema["nullable"] else ""
        head = f'<fieldset name="param-{escape(name)}" data-kind={kind}{sent}{null}'
        legend = f"><legend><code>{escape(name)}</code>{number}</legend>"
        text = f"<p>{inline(schema['description'])}</p>" if schema.get("description") and not number else ""
        if kind == "object":
            members = self.members(schema, deep + 1, schema.get("default"))
            return f"{head}{legend}{text}{members}</fieldset>"
        default = _json(schema.get("default", [] if kind == "list" else {} if kind == "map" else None))
        most = 1 if kind == "maybe" else schema.get("maxItems", schema.get("maxProperties", ""))
        return (
            f'{head} data-default="{escape(default)}" data-most="{most}"{legend}{text}<ol class=items></ol>'
            f'<button type=button class=add aria-label="Add to {escape(name)}">Add</button>'
            f"<template>{self._item(name, kind, inner, deep + 1)}</template></fieldset>"
        )

    def _held(self, schema: Schema) -> tuple[str, Schema] | None:
        """What kind of box it is, and what is in it."""
        if "properties" in schema:
            optional = schema["nullable"] or not (schema["needed"] or "default" in schema)
            alone = {name: about for name, about in schema.items() if name not in ("default", "description")}
            return ("maybe", {**alone, "nullable": False, "needed": True}) if optional else ("object", schema)
        kind, member = {"array": ("list", "items"), "object": ("map", "additionalProperties")}.get(
            schema.get("type", ""), ("", "")
        )
        inner = schema.get(member)
        if not inner or not isinstance(inner, Mapping) or "prefixItems" in schema:
            return None
        return kind, {**_plain(inner, self._known), "needed": True}

    def _item(self, name: str, kind: str, schema: Schema, deep: int) -> str:
        """One of a list or a map."""
        number = " <span class=number></span>" if kind == "list" else ""
        key = "<label>Name <input class=key required></label>" if kind == "map" else ""
        value = self._box(name, schema, "", deep, number)
        if not value:
            control = _control(schema, {"name": f"param-{name}"}, "", deep)
            value = f"<label><code>{escape(name)}</code>{number} {control}</label>"
        return f"<li>{key}{value}<button type=button class=remove>Remove</button></li>"


def _plain(schema: Schema, known: Schema) -> Schema:
    """The schema that a reference stands for, or the only choice beside null, with what is said around it."""
    nullable = False
    while "$ref" in schema or "anyOf" in schema:
        choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
        nullable |= "anyOf" in schema and len(choices) < len(schema["anyOf"])
        if len(choices) > 1:
            break  # of several kinds: written as JSON
        inner = choices[0] if choices else known[schema["$ref"].rpartition("/")[2]]
        outer = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf")}
        schema = {**inner, **outer}
    if None in schema.get("enum", ()):
        nullable, schema = True, {**schema, "enum": [value for value in schema["enum"] if value is not None]}
    return {**schema, "nullable": nullable}


def _control(schema: Schema, given: Mapping[str, str], sent: str, deep: int) -> str:
    """A control whose default value is the param's: the script sends what was changed, as its kind says."""
    kind, default = schema.get("type"), schema.get("default")
    needed = (schema["needed"] or default is not None) and not schema["nullable"]
    required = {"required": ""} if needed else {}
    flags = sent + (" data-null" if schema["nullable"] else "")
    values = schema.get("enum", (False, True) if kind == "boolean" else None)
    if kind == "boolean" and isinstance(default, bool) and not schema["nullable"]:
        return f"<input type=checkbox{flags}{_written({**given, **({'checked': ''} if default else {})})}>"
    if values is not None:
        blank = [] if needed and default in values else [None]
        options = "".join(_option(value, chosen=value == default) for value in [*blank, *values])
        kinds = "" if all(isinstance(value, str) for value in values) else " data-json"
        return f"<select{kinds}{flags}{_written({**given, **required})}>{options}</select>"
    if kind in ("integer", "number"):
        limits = {"min": schema.get("minimum"), "max": schema.get("maximum"), "value": default}
        bounds = {name: str(value) for name, value in limits.items() if value is not None}
        step = {"step": "1" if kind == "integer" else "any"}
        return f"<input type=number{flags}{_written({**given, **required, **bounds, **step})}>"
    if kind == "string":
        limit = {"maxlength": str(schema["maxLength"])} if "maxLength" in schema else {}
        # What is in a box was added on purpose, and a text may be empty there.
        asked = required if schema["needed"] and not deep else {}
        written = {**given, **asked, **limit}
        if schema.get("maxLength", 0) <= LONG_TEXT:
            return f"<input{flags}{_written({**written, 'value': default or ''})}>"
        return f"<textarea{flags}{_written(written)}>{escape(default or '')}</textarea>"
    example = next(iter(schema.get("examples", ())), None)
    hint = {"placeholder": _json(example)} if example is not None else {}
    text = escape(_json(default)) if default is not None else ""
    return f"<textarea data-json{flags}{_written({**given, **required, **hint})}>{text}</textarea>"


def _option(value: Any, *, chosen: bool) -> str:
    shown = "" if value is None else value if isinstance(value, str) else _json(value)
    return f"<option{' selected' if chosen else ''}>{escape(shown)}</option>"


def _written(attributes: Mapping[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
