"""Who asks, and whether they may: a key in a header, or a one-time ticket where a browser cannot send headers."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import falcon.asgi

from callsheet.actors.errors import Unavailable
from callsheet.actors.tenants.keyring import ApiKey, Keyring, Scope
from callsheet.actors.tenants.names import DEFAULT_TENANT
from callsheet.http.conditions import wants_stream
from callsheet.http.problems import Problem

# Where nobody has to say who they are: what says no more than that the service is there, and how it is used.
OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/docs", "/try"})
TICKETS = "/v1/tickets"  # whoever may read may watch
OPERATORS = frozenset({"/metrics"})  # what tells of all tenants
PATIENCE_SECONDS = 2.0  # of operators, for the journal; whoever collects figures gives up after ten, as a rule
_FEED = re.compile(r"/v1/(jobs/[^/]+/)?events\Z")  # what a ticket opens, beside WebSockets
READS = frozenset({"GET", "HEAD", "OPTIONS"})
ANYBODY = ApiKey("", DEFAULT_TENANT, ("read", "write", "admin"), "", "", "")  # who asks while no keys are needed


class Doorkeeper:
    """Middleware: every request is a tenant's, or is refused before anything looks at it."""

    def __init__(self, keyring: Keyring, *, needs_keys: bool) -> None:
        self._keyring = keyring
        self._needs_keys = needs_keys

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Let in who has a key with the scope that the method needs. Raises Problem: unauthorized, forbidden."""
        if req.path in OPEN:
            return
        watches = req.method == "GET" and _FEED.match(req.path) is not None and wants_stream(req)
        await self._let_in(req, takes_ticket=watches)
        if req.path.startswith("//"):  # the router would take it for the place that is called so with one slash
            raise Problem("not_found")
        require(req, scope_of(req))

    async def process_request_ws(self, req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None:
        """The same for a WebSocket. What is sent over it later needs what the same request would."""
        await self._let_in(req, takes_ticket=True)
        require(req, "read")

    async def _let_in(self, req: falcon.asgi.Request, *, takes_ticket: bool) -> None:
        key = await self._key(req, takes_ticket) if self._needs_keys else ANYBODY
        if key is None:
            raise Problem("unauthorized", headers={"WWW-Authenticate": 'Bearer realm="callsheet"'})
        req.context.key = key
        req.context.tenant = key.tenant

    async def _key(self, req: falcon.asgi.Request, takes_ticket: bool) -> ApiKey | None:
        shown = shown_keys(req)
        if len(shown) > 1:
            return None
        if shown:
            return await self._key_shown(shown.pop(), req)
        ticket = req.params.get("ticket") if takes_ticket else None
        return await self._keyring.redeem(ticket) if isinstance(ticket, str) else None

    async def _key_shown(self, secret: str, req: falcon.asgi.Request) -> ApiKey | None:
        """While the journal is away nobody gets in, but for operators: what they look at tells of that."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS if req.path in OPERATORS else None):
                return await self._keyring.key(secret)
        except (Unavailable, TimeoutError) as error:
            latest = self._keyring.latest(secret) if req.path in OPERATORS else None
            if latest is None:
                raise Unavailable("the keys cannot be read") from error
            return latest


def scope_of(req: falcon.asgi.Request) -> Scope:
    """What a key needs for a request."""
    if req.path in OPERATORS:
        return "admin"
    return "read" if req.method in READS or req.path == TICKETS else "write"


def shown_keys(req: falcon.asgi.Request) -> set[str]:
    """The keys that a request shows, in either header. None is read from anywhere else, least of all from the URL."""
    found = {req.get_header("X-API-Key")}
    authorization = req.get_header("Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        found.add(token.strip() if scheme.lower() == "bearer" else "")  # another scheme is a key that nobody has
    return {key for key in found if key is not None}


def may(req: falcon.asgi.Request, scope: Scope) -> bool:
    """Whether who asks may do what needs that scope."""
    key: Any = getattr(req.context, "key", None)
    return isinstance(key, ApiKey) and key.allows(scope)


async def may_still(req: falcon.asgi.Request, scope: Scope, keyring: Keyring) -> bool:
    """The same for somebody who was let in a while ago. Raises Unavailable."""
    return may(req, scope) and (req.context.key is ANYBODY or await keyring.counts(req.context.key))


def require(req: falcon.asgi.Request, scope: Scope) -> None:
    """Raise Problem unless who asks may do what needs that scope."""
    if not may(req, scope):
        raise Problem("forbidden", f"this needs a key with the scope {scope!r}")
