"""One try of a webhook: one POST to a checked address, within a time and a number of bytes, and what came of it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Collection, Sequence
from functools import cached_property

import httpx
import msgspec
import structlog

from callsheet.actors.failpoints import failpoint
from callsheet.actors.webhooks.signing import signatures
from callsheet.jobs.webhooks import GONE
from callsheet.media.addresses import ForbiddenUrlError, check_url
from callsheet.media.pinned import UnknownHostError, async_client, async_resolve

log = structlog.get_logger("host")
MAX_ANSWER = 16 * 1024  # bytes of an answer's body; all of it is thrown away
CONNECT_SECONDS = 5.0
RESOLVE_SECONDS = 5.0


class WebhookRequest(msgspec.Struct, frozen=True):
    """What is sent, and where. `secrets`: all that sign it."""

    url: str
    id: str
    body: bytes
    secrets: Sequence[str]

    def headers(self, timestamp: int) -> dict[str, str]:
        """The headers of a try at `timestamp` (s since the epoch)."""
        return {
            "content-type": "application/json",
            "user-agent": "Callsheet",
            "accept-encoding": "identity",
            "webhook-id": self.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self.id, timestamp, self.body, self.secrets),
        }


class Result(msgspec.Struct):
    """What came of a try: `code` is None for success, else why it failed; `duration` in seconds."""

    code: str | None = None
    status_code: int | None = None
    duration: float = 0.0


class Poster:
    """Makes tries, each within `seconds` from the look-up of the name to the end of the answer."""

    def __init__(self, seconds: float, allowed: Collection[str]) -> None:
        self._seconds = seconds
        self._allowed = allowed

    async def post(self, request: WebhookRequest) -> Result:
        """Make one try. Never raises but when cancelled."""
        if not request.secrets:
            return Result("no_secret")
        tls = self._tls  # before the time runs: to make it takes a while
        result, begun = Result(), time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                await self._post(request, tls, result)
        except Exception as error:  # whatever it is, it must become an outcome: the job waits for it
            result.code = _code(error)
            if result.code == "internal":
                log.exception("a webhook could not be tried")
        result.duration = round(time.monotonic() - begun, 3)
        return result

    async def _post(self, request: WebhookRequest, tls: ssl.SSLContext, result: Result) -> None:
        checked = check_url(request.url, self._allowed)
        addresses = await async_resolve(checked, RESOLVE_SECONDS)
        timeout = httpx.Timeout(self._seconds, connect=CONNECT_SECONDS)
        headers = request.headers(int(time.time()))
        failpoint("webhook.sending")
        async with (
            async_client(checked, addresses, verify=tls, timeout=timeout) as http,
            http.stream("POST", checked.url, content=request.body, headers=headers) as answer,
        ):
            result.status_code = answer.status_code
            result.code = _verdict(answer.status_code)
            size = 0
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > MAX_ANSWER:
                    result.code = "answer_too_large"
                    return

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once: to read the authorities takes longer than many a delivery."""
        return httpx.create_ssl_context()


def _verdict(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if status == httpx.codes.GONE:
        return GONE
    return "redirected" if 300 <= status < 400 else "refused"


def _code(error: Exception) -> str:
    match error:
        case TimeoutError() | httpx.TimeoutException():
            return "timeout"
        case ForbiddenUrlError():
            return "url_forbidden"
        case UnknownHostError():
            return "host_unknown"
        case httpx.ConnectError():
            return "tls_failed" if _has_tls_error(error) else "unreachable"
        case httpx.TransportError():
            return "connection_lost"
        case _:
            return "internal"


def _has_tls_error(error: BaseException | None) -> bool:
    """Whether TLS is what failed: httpx tells of it as of any other connection that did not come about."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
