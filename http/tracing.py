"""A span for each request, from its headers to the beginning of its answer."""

from __future__ import annotations

from typing import Any

import falcon.asgi

from callsheet.actors.telemetry import tracing
from callsheet.http.request_ids import request_id

ROUTELESS = "none"


class Tracing:
    """Middleware. A client that sends a `traceparent` finds the request below its own span."""

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Begin it."""
        req.context.span = tracing.begin(req.method, req.get_header("traceparent") or "", request_id=request_id(req))

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: Any, _succeeded: bool
    ) -> None:
        """End it. What is streamed after this is not part of it: a feed lasts for as long as its watcher likes."""
        route = req.uri_template or ROUTELESS
        facts: dict[str, str | int] = {"http.route": route, "http.response.status_code": resp.status_code}
        tracing.end(
            getattr(req.context, "span", None), f"{req.method} {route}", **{"http.request.method": req.method}, **facts
        )
