"""Connecting to a checked URL: its name is resolved once, every address is checked, and only those are connected to.

    checked = check_url(url, allowed)
    with client(checked, resolve(checked)) as http:         # or: async with async_client(checked, await …)
        http.get(checked.url)

Between the check and the connection nothing is looked up again, so a name that changes its mind (DNS rebinding) gains
nothing. TLS is verified against the host of the URL, not the address. No redirect is followed, no proxy of the
environment used.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any

import httpx

from callsheet.media.addresses import CheckedUrl, ForbiddenUrlError, check_addresses
from callsheet.media.errors import MediaError

RESOLVE_SECONDS = 10.0
MAX_TRIED = 4  # addresses that are connected to, one after the other; all are checked
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout)


class UnknownHostError(MediaError):
    """The name has no address now; it may have one later."""

    def __init__(self) -> None:
        super().__init__("host_unknown", "The URL's host cannot be found.", retryable=True)


def resolve(checked: CheckedUrl, seconds: float = RESOLVE_SECONDS) -> tuple[str, ...]:
    """The addresses of the URL's host, all good. Raises ForbiddenUrlError, UnknownHostError."""
    answer: queue.Queue[list[str]] = queue.Queue()
    # In a thread, because the system's resolver cannot be given a time.
    threading.Thread(target=lambda: answer.put(_addresses(checked)), name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        raise UnknownHostError from None
    return _good(checked, found)


async def async_resolve(checked: CheckedUrl, seconds: float = RESOLVE_SECONDS) -> tuple[str, ...]:
    """See resolve."""
    return await asyncio.to_thread(resolve, checked, seconds)


def client(checked: CheckedUrl, addresses: Sequence[str], **options: Any) -> httpx.Client:
    """An HTTP client that reaches this host and port at these addresses, and nothing else. `options` are httpx's."""
    verify = options.pop("verify", True)
    transport = PinnedTransport(checked, addresses, verify)
    return httpx.Client(transport=transport, trust_env=False, follow_redirects=False, **{"timeout": TIMEOUT} | options)


def async_client(checked: CheckedUrl, addresses: Sequence[str], **options: Any) -> httpx.AsyncClient:
    """See client."""
    verify = options.pop("verify", True)
    transport = AsyncPinnedTransport(checked, addresses, verify)
    return httpx.AsyncClient(
        transport=transport, trust_env=False, follow_redirects=False, **{"timeout": TIMEOUT} | options
    )


class PinnedTransport(httpx.BaseTransport):
    """Sends every request to the addresses it was made with."""

    def __init__(self, checked: CheckedUrl, addresses: Sequence[str], verify: ssl.SSLContext | bool = True) -> None:
        self._checked, self._addresses = checked, tuple(addresses)[:MAX_TRIED]
        self._inner = httpx.HTTPTransport(verify=verify, trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Try the addresses in turn until one accepts the connection."""
        failure: Exception = UnknownHostError()
        for pinned in _pinned(request, self._checked, self._addresses):
            try:
                return self._inner.handle_request(pinned)
            except UNREACHABLE as error:
                failure = error
        raise failure

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncPinnedTransport(httpx.AsyncBaseTransport):
    """See PinnedTransport."""

    def __init__(self, checked: CheckedUrl, addresses: Sequence[str], verify: ssl.SSLContext | bool = True) -> None:
        self._checked, self._addresses = checked, tuple(addresses)[:MAX_TRIED]
        self._inner = httpx.AsyncHTTPTransport(verify=verify, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See PinnedTransport."""
        failure: Exception = UnknownHostError()
        for pinned in _pinned(request, self._checked, self._addresses):
            try:
                return await self._inner.handle_async_request(pinned)
            except UNREACHABLE as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _addresses(checked: CheckedUrl) -> list[str]:
    try:
        found = socket.getaddrinfo(checked.host, checked.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def _good(checked: CheckedUrl, found: list[str]) -> tuple[str, ...]:
    if not found:
        raise UnknownHostError
    return check_addresses(checked, found)


def _pinned(request: httpx.Request, checked: CheckedUrl, addresses: Sequence[str]) -> list[httpx.Request]:
    """The request, once for each address. Its Host header stays; the name goes to TLS, which checks it."""
    url = request.url
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    host = url.raw_host.decode("ascii").lower()
    if (host, port) != (checked.host, checked.port) or not addresses:
        raise ForbiddenUrlError("it is another one than was checked")
    extensions = {**request.extensions, "sni_hostname": checked.host}
    return [
        httpx.Request(
            request.method,
            url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )
        for address in addresses
    ]
