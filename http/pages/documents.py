"""What the service says of itself: documents that are made once and served as they are."""

from __future__ import annotations

import hashlib

import falcon.asgi
import msgspec

from callsheet.actors.pipelines import Pipelines
from callsheet.http.conditions import is_known
from callsheet.http.openapi.asyncapi import asyncapi
from callsheet.http.openapi.document import openapi
from callsheet.http.pages import docs, forms

HTML = "text/html; charset=utf-8"


class Fixed:
    """A document that does not change while the service runs."""

    def __init__(self, body: bytes, media_type: str, policy: str = "default-src 'none'") -> None:
        self.body = body
        self._type = media_type
        self._policy = policy
        self._tag = hashlib.sha256(body).hexdigest()

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The document."""
        resp.set_header("ETag", f'"{self._tag}"')
        resp.set_header("Cache-Control", "no-cache")
        if is_known(req, self._tag):
            resp.status = 304
            return
        resp.content_type = self._type
        resp.set_header("Content-Security-Policy", self._policy)
        resp.data = self.body


def documents(pipelines: Pipelines, *, needs_keys: bool = False) -> tuple[tuple[str, Fixed], ...]:
    """The routes that say what the service is, for machines and for people."""
    routes, feeds = openapi(pipelines, needs_keys=needs_keys), asyncapi()
    return (
        ("/openapi.json", Fixed(msgspec.json.encode(routes), "application/json")),
        ("/asyncapi.json", Fixed(msgspec.json.encode(feeds), "application/json")),
        ("/docs", Fixed(docs.docs_page(routes, feeds), HTML, docs.POLICY)),
        ("/try", Fixed(forms.forms_page(pipelines, needs_keys=needs_keys), HTML, forms.POLICY)),
    )
