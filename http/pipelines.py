"""`/v1/pipelines`: what is on offer, and what each takes."""

from __future__ import annotations

import falcon.asgi
import msgspec

from callsheet.actors.pipelines import Pipelines
from callsheet.http.represent import pipeline_json
from callsheet.http.schemas import PipelinePage


class PipelineList:
    """The pipelines of this service. They do not change while it runs."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._body = msgspec.json.encode(PipelinePage([pipeline_json(p) for p in pipelines.values()]))

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """All of them."""
        resp.content_type = "application/json"
        resp.data = self._body
