"""The page at /docs, made from the OpenAPI and AsyncAPI documents: no script, no other host, nothing to load."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "docs.css").read_text()


def digest(text: str) -> str:
    """A style or a script as a Content-Security-Policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# The page may show itself with this very style, and do nothing else.
POLICY = f"default-src 'none'; style-src '{digest(STYLE)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_MACHINES = (
    '<p class=soft>For machines: <a href="/openapi.json">openapi.json</a>, '
    '<a href="/asyncapi.json">asyncapi.json</a>. With a form for each pipeline: <a href="/try">try it</a>.</p>'
)
Document = Mapping[str, Any]


def docs_page(openapi: Document, asyncapi: Document) -> bytes:
    """The whole page."""
    info, version = openapi["info"], escape(openapi["info"]["version"])
    channels = [(_anchor("feed", name), channel["title"]) for name, channel in asyncapi["channels"].items()]
    parts = (
        f"<h1>{escape(info['title'])} <span class=soft>{version}</span></h1>",
        prose(info["description"]),
        _MACHINES,
        _contents(openapi, channels),
        *(_tag(openapi, tag) for tag in openapi["tags"]),
        "<h2 id=feeds>Feeds</h2>",
        prose(asyncapi["info"]["description"]),
        *(_channel(asyncapi, name, channel) for name, channel in asyncapi["channels"].items()),
        "<h2 id=types>Types</h2>",
        *(_type(name, schema) for name, schema in _types(openapi, asyncapi).items()),
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Callsheet: API</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    ).encode()


def _operations(openapi: Document, tag: str) -> Iterable[tuple[str, str, Document]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _contents(openapi: Document, channels: list[tuple[str, str]]) -> str:
    sections = [
        (tag["name"], [(operation["operationId"], operation["summary"]) for *_, operation in found])
        for tag in openapi["tags"]
        if (found := list(_operations(openapi, tag["name"])))
    ]
    lists = (
        f"<section><strong>{escape(title)}</strong>"
        + "".join(f'<a href="#{escape(anchor)}">{escape(text)}</a>' for anchor, text in links)
        + "</section>"
        for title, links in (*sections, ("feeds", channels))
    )
    return f"<nav>{''.join(lists)}</nav>"


def _tag(openapi: Document, tag: Document) -> str:
    articles = "".join(_operation(*found) for found in _operations(openapi, tag["name"]))
    title = escape(tag["name"])
    return f"<h2 id=tag-{title}>{title.capitalize()}</h2><p class=soft>{escape(tag['description'])}</p>{articles}"


def _operation(method: str, path: str, operation: Document) -> str:
    route = f'<span class=route><span class="method {method.lower()}">{method}</span> {escape(path)}</span>'
    parts = (
        f'<article id="{escape(operation["operationId"])}">',
        f"<header><h3>{escape(operation['summary'])}</h3>{route}</header>",
        prose(operation.get("description", "")),
        *(f"<pre>{escape(sample['source'])}</pre>" for sample in operation.get("x-codeSamples", ())),
        _scope(operation),
        _table("Parameters", (_parameter(given) for given in operation["parameters"])),
        _table("Body", _body(operation.get("requestBody", {}))),
        _table("Answers", (_answer(status, answer) for status, answer in operation["responses"].items())),
        "</article>",
    )
    return "".join(parts)


def _scope(operation: Document) -> str:
    scopes = {scope for way in operation["security"] for found in way.values() for scope in found}
    return f"<p class=soft>Takes a key with the scope {_words(scopes)}.</p>" if scopes else ""


def _parameter(given: Document) -> tuple[str, str]:
    note = ", required" if given["required"] else ""
    name = f"<code>{escape(given['name'])}</code> <span class=soft>{given['in']}{note}</span>"
    return name, f"{inline(given['description'])} <span class=soft>{_kind(given['schema'])}</span>"


def _body(body: Document) -> Iterable[tuple[str, str]]:
    note = "" if body.get("required") else " <span class=soft>may be left out</span>"
    for media_type, content in body.get("content", {}).items():
        yield f"<code>{escape(media_type)}</code>", _kind(content["schema"]) + note


def _answer(status: str, answer: Document) -> tuple[str, str]:
    kinds = {_kind(content["schema"]) for media_type, content in answer.get("content", {}).items() if status < "4"}
    shown = f" <span class=soft>{', '.join(sorted(kinds - {''}))}</span>" if kinds else ""
    return escape(status), inline(answer["description"]) + shown


def _channel(asyncapi: Document, name: str, channel: Document) -> str:
    messages = (asyncapi["components"]["messages"][message] for message in channel["messages"])
    rows = ((_link(_of_ref(message["payload"]), message["name"]), inline(message["summary"])) for message in messages)
    return (
        f'<article id="{_anchor("feed", name)}"><header><h3>{escape(channel["title"])}</h3>'
        f"<span class=route>{escape(channel['address'])}</span></header>{prose(channel['description'])}"
        f"{_table('Messages', rows)}</article>"
    )


def _types(openapi: Document, asyncapi: Document) -> dict[str, Document]:
    return dict(sorted({**asyncapi["components"]["schemas"], **openapi["components"]["schemas"]}.items()))


def _type(name: str, schema: Document) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(member)}</code>" + ("" if member in required else " <span class=soft>optional</span>"),
            f"{inline(about.get('description', ''))} <span class=soft>{_kind(about)}</span>",
        )
        for member, about in schema.get("properties", {}).items()
    )
    made = _table("", rows) if schema.get("properties") else f"<p>{_kind(schema)}</p>"
    text = prose(schema.get("description", ""))
    return f'<details class=type id="{_anchor("type", name)}"><summary>{escape(name)}</summary>{text}{made}</details>'


def _kind(schema: Document) -> str:
    """A schema in a few words; a type of ours as a link to it."""
    if "$ref" in schema:
        return _link(_of_ref(schema))
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(choice) or "anything" for choice in choices)
    if "enum" in schema or "const" in schema:
        return _words(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array" and schema.get("items"):
        return f"list of {_kind(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        return ", ".join(f"<code>{escape(name)}</code> {_kind(about)}" for name, about in schema["properties"].items())
    return " ".join((escape(str(schema.get("type", ""))), *_limits(schema))).strip()


def _limits(schema: Document) -> Iterable[str]:
    words = {"minimum": "from {}", "maximum": "to {}", "maxLength": "of {} characters at most", "format": "({})"}
    yield from (text.format(escape(str(schema[name]))) for name, text in words.items() if name in schema)
    if "default" in schema:
        yield f"= {escape(str(schema['default']))}"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{left}</th><td>{right}</td></tr>" for left, right in rows)
    return f"{f'<h4>{title}</h4>' if title else ''}<table>{lines}</table>" if lines else ""


def prose(text: str) -> str:
    """Paragraphs."""
    return "".join(f"<p>{inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph.strip())


def inline(text: str) -> str:
    """Text in which `these` quote code and a line is a line."""
    pieces = escape(text, quote=False).split("`")
    return "".join(f"<code>{piece}</code>" if n % 2 else piece for n, piece in enumerate(pieces)).replace("\n", "<br>")


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"<code>{escape(word)}</code>" for word in sorted(words))


def _link(name: str, shown: str = "") -> str:
    return f'<a href="#{_anchor("type", name)}">{escape(shown or name)}</a>'


def _of_ref(schema: Document) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _anchor(kind: str, name: str) -> str:
    return escape(f"{kind}-{name}")
