"""Holds answers against the OpenAPI document: what the tests see must be what it says."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx
import jsonschema

from callsheet.actors.pipelines import load_pipelines
from callsheet.http.openapi.document import openapi


class Contract:
    """The document, and what to look up in it."""

    def __init__(self, pipelines: tuple[str, ...]) -> None:
        self._document: dict[str, Any] = json.loads(json.dumps(openapi(load_pipelines(pipelines))))
        self._routes = {re.compile(re.sub(r"{\w+}", "[^/]+", path)): path for path in self._document["paths"]}

    def check(self, answer: httpx.Response) -> None:
        """That the answer to a request for one of our operations has a status, type, code and body of the document."""
        method = answer.request.method.lower()
        operations = self._operations(answer.request.url.path)
        operation = operations.get(method) or operations.get("get" if method == "head" else "")
        if operation is None or answer.status_code == 405:
            return
        where = f"{method} {answer.request.url.path}: {answer.status_code}"
        found = operation["responses"].get(str(answer.status_code))
        assert found is not None, f"{where} is not in the document"
        if method == "head" or answer.headers.get("content-type", "").startswith("text/event-stream"):
            return
        answer.read()
        if answer.content:
            self._check_body(found.get("content", {}), answer, where)

    def _operations(self, path: str) -> dict[str, Any]:
        matching = [self._routes[route] for route in self._routes if route.fullmatch(path)]
        exact = sorted(matching, key=lambda known: known.count("{"))
        return self._document["paths"][exact[0]] if exact else {}

    def _check_body(self, content: dict[str, Any], answer: httpx.Response, where: str) -> None:
        media_type = answer.headers["content-type"].partition(";")[0]
        types = {name.partition(";")[0]: about for name, about in content.items()}
        known = types.get(media_type) or types.get("*/*")
        assert known is not None, f"{where} is {media_type}, which is not in the document"
        if media_type.endswith("json"):
            schema = {**known["schema"], "components": self._document["components"]}
            errors = list(jsonschema.Draft202012Validator(schema).iter_errors(answer.json()))
            assert not errors, f"{where}: {errors[0].message} at {errors[0].json_path} in {answer.text[:500]}"


@cache
def contract(*pipelines: str) -> Contract:
    """The contract of a service with these pipelines."""
    return Contract(pipelines)


def validator(document: Any, schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Checks values against a schema that refers to the document's components."""
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})
