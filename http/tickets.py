"""`/v1/tickets`: for a page in a browser, which can set no header on a WebSocket or an EventSource."""

from __future__ import annotations

import falcon.asgi
import msgspec

from callsheet.actors.tenants.keyring import TICKET_SECONDS, Keyring
from callsheet.http.body import read_json
from callsheet.http.jobs import NoFields, converted
from callsheet.http.schemas import Ticket


class Tickets:
    """Gives out one-time tickets."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """A ticket that stands for the key of this request."""
        converted(await read_json(req), NoFields)
        ticket = await self._keyring.issue_ticket(req.context.key.id)
        resp.status = 201
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")
        resp.data = msgspec.json.encode(Ticket(ticket, TICKET_SECONDS))
