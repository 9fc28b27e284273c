"""The names that this service answers to.

Where no key is needed, whoever reaches the service may do all; so it listens to this machine only. A page from
elsewhere gets around that by having its own name lead here (DNS rebinding): to the browser it is then of the same
origin. What it cannot change is the name in `Host`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

import falcon.asgi

from callsheet.http.problems import Problem


class HostCheck:
    """Refuses requests for a name that is not ours: neither `localhost`, nor an address, nor one of `names`.

    `names` is None where keys are needed: any name will do there, since a page has no key.
    """

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = None if names is None else frozenset(names)

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Of a request."""
        self._check(req)

    async def process_request_ws(self, req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None:
        """Of a WebSocket."""
        self._check(req)

    def _check(self, req: falcon.asgi.Request) -> None:
        host = req.get_header("Host")
        if host is None and req.scope.get("http_version") == "1.0":
            return  # no browser
        if host is None:
            raise Problem("bad_request", "there is no Host")  # RFC 9112, 3.2
        if self._names is not None and not _is_ours(host, self._names):
            raise Problem("unknown_host")


def _is_ours(host: str, names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
