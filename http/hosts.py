"""The names that this service answers to, where no key is needed.

There, whoever reaches the service may do all; so it listens to this machine only. A page from elsewhere gets around
that by having its own name lead here (DNS rebinding): to the browser it is then of the same origin. What it cannot
change is the name in `Host`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

import falcon.asgi

from callsheet.http.problems import Problem


class HostCheck:
    """Refuses requests for a name that is not ours: neither `localhost`, nor an address, nor one of `names`."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Of a request."""
        self._check(req)

    async def process_request_ws(self, req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None:
        """Of a WebSocket."""
        self._check(req)

    def _check(self, req: falcon.asgi.Request) -> None:
        host = req.get_header("Host")
        if host is not None and not self._is_ours(host):  # a browser never leaves it out
            raise Problem("unknown_host")

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        except ValueError:
            return False
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
