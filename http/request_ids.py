"""A name for each request: a header of its answer, in problems that are our fault, in every line logged on its way."""

from __future__ import annotations

import re
import secrets
from typing import Any

import falcon.asgi
from structlog.contextvars import bind_contextvars

HEADER = "X-Request-ID"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class RequestIds:
    """Middleware: takes the client's (or its proxy's) name for a request if it is plain, else makes one."""

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Name it."""
        resp.context.request_id = _name(req)

    async def process_request_ws(self, req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None:
        """The same; the answer to a WebSocket's request cannot tell it."""
        _name(req)

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: Any, _succeeded: bool
    ) -> None:
        """Tell it. What is no HTTP at all comes here at once."""
        resp.set_header(HEADER, request_id(req) or _name(req))


def request_id(req: falcon.asgi.Request) -> str:
    """The name of this request."""
    name: str = getattr(req.context, "request_id", "")
    return name


def _name(req: falcon.asgi.Request) -> str:
    given = req.get_header(HEADER) or ""
    req.context.request_id = name = given if _PLAIN.match(given) else secrets.token_hex(16)
    bind_contextvars(request_id=name)  # a connection's requests follow each other in one context: the next one rebinds
    return name
