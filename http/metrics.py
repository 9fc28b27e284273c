"""`/metrics`, and what the API counts of its own requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import falcon
import falcon.asgi

from callsheet.actors.telemetry.figures import MEDIA_TYPE, Figures
from callsheet.actors.telemetry.metrics import REQUEST_SECONDS, REQUESTS, REQUESTS_NOW
from callsheet.http.body import App

METHODS = frozenset(falcon.HTTP_METHODS)
_COUNTED = "callsheet.counted"  # in a request's scope: the gauge that it is counted in


class Metrics:
    """`/metrics`: the figures of all processes, whichever of them is asked."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._one_at_a_time = asyncio.Lock()

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Prometheus' text format."""
        async with self._one_at_a_time:
            resp.data = await asyncio.to_thread(self._figures.text)
        resp.content_type = MEDIA_TYPE
        resp.set_header("Cache-Control", "no-store")


class Counting:
    """Middleware, the outermost: counts every request by its route, never by its path, which is anybody's."""

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Start the clock."""
        req.context.begun = time.monotonic()

    async def process_resource(self, req: falcon.asgi.Request, _resp: Any, _resource: Any, _params: Any) -> None:
        """It has a route."""
        counted = req.scope[_COUNTED] = REQUESTS_NOW.labels(req.uri_template)
        counted.inc()

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: Any, _succeeded: bool
    ) -> None:
        """The answer begins."""
        begun = getattr(req.context, "begun", None) or time.monotonic()  # what is no HTTP at all comes here at once
        _is_over(req.scope)
        route = req.uri_template or "none"
        method = req.method if req.method in METHODS else "other"
        REQUESTS.labels(route, method, str(resp.status_code)).inc()
        REQUEST_SECONDS.labels(route, method).observe(time.monotonic() - begun)


def counted_once(app: App) -> App:
    """The application; a request that never gets an answer is under way no more, either. (The server cancels one whose
    client has gone, and then no middleware hears of its end.)"""

    async def call(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        finally:
            _is_over(scope)

    return call


def _is_over(scope: MutableMapping[str, Any]) -> None:
    counted = scope.pop(_COUNTED, None)
    if counted is not None:
        counted.dec()
