"""Calls to a provider, each with a bound on time and bytes, repeated where that is harmless. Failures are typed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import tenacity

from callsheet.media.providers.base import ProviderError

MAX_JSON = 256 * 1024  # bytes of an answer that holds no file
PIECE = 1 << 16
TRIES = 4
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between tries; limits are often by the minute
RETRY_INFO = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,9}(?:\.\d{1,9})?)s"')
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
BUSY = (408, 425, 429)
SERVER = range(500, 600)
KEYS = ("Authorization", "x-goog-api-key")  # the headers that hold one
SAID = ("detail", "error", "err_msg", "message")  # where an error says what it is
T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """Status and body of a response."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object. ProviderError: provider_bad_answer."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise bad_answer("it is not a JSON object") from None


class Web:
    """A client for one provider, used in one thread. `once` calls are only repeated if they certainly did nothing.

    `free` tells of an answer 5xx whether it means that nothing was taken, and nothing will be charged. `ended` tells of
    an error whether it is how an order ended, and no fault of the call: it is `provider_failed`.
    """

    def __init__(
        self,
        name: str,
        headers: dict[str, str],
        seconds: float,
        free: Callable[[httpx.Response], bool],
        ended: Callable[[httpx.Response], bool] = lambda _: False,
    ) -> None:
        self._name, self._headers, self._seconds, self._free, self._ended = name, headers, seconds, free, ended
        self._keys = [headers[header].split()[-1] for header in KEYS if header in headers]
        timeout = httpx.Timeout(seconds, connect=min(10.0, seconds))
        self._client = httpx.Client(timeout=timeout, trust_env=False, follow_redirects=False)

    def call(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        content: Path | None = None,
        form: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        with_key: bool = True,
        once: bool = False,
        limit: int = MAX_JSON,
        passes: tuple[int, ...] = (),
    ) -> Answer:
        """Call, and give back an answer of 2xx, or one of `passes`. Raises ProviderError.

        `content` is the body, read as it is sent; with a `form` it is the part `file` of one.
        """
        own = {**(self._headers if with_key else {}), **(headers or {})}

        def attempt() -> Answer:
            body = content.open("rb") if content else None
            try:
                arguments: dict[str, Any] = {"json": json} if json is not None else {"content": body}
                if form is not None and content:
                    arguments = {"data": form, "files": {"file": (content.name, body)}}
                with self._answering(method, url, headers=own, **arguments) as response:
                    return self._read(response, limit, passes)
            finally:
                if body:
                    body.close()

        return self._repeated(attempt, once)

    def download(self, url: str, target: Path, limit: int, headers: dict[str, str] | None = None) -> None:
        """Write what lies at a URL to a file. Our key is not sent. ProviderError: provider_bad_answer if too large."""

        def attempt() -> None:
            with self._answering("GET", url, headers=headers or {}) as response, target.open("wb") as file:
                self._check(response, ())
                for piece in self._pieces(response, limit):
                    file.write(piece)

        self._repeated(attempt, once=False)

    def _repeated(self, attempt: Callable[[], T], once: bool) -> T:
        def again(error: BaseException) -> bool:
            return isinstance(error, ProviderError) and error.retryable and (not once or error.taken is False)

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=_pause,
            retry=tenacity.retry_if_exception(again),
            reraise=True,
        )
        return retrying(attempt)

    @contextmanager
    def _answering(self, method: str, url: str, **arguments: Any) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, url, **arguments) as response:
                yield response
        except NOT_SENT as error:
            raise self._failed("cannot be reached", taken=False) from error
        except httpx.TimeoutException as error:
            raise self._failed("did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._failed("broke off the connection") from error

    def _read(self, response: httpx.Response, limit: int, passes: tuple[int, ...]) -> Answer:
        self._check(response, passes)
        return Answer(response.status_code, b"".join(self._pieces(response, limit)))

    def _check(self, response: httpx.Response, passes: tuple[int, ...]) -> None:
        status = response.status_code
        if response.is_success or status in passes:
            return
        body = b"".join(self._pieces(response, MAX_JSON))
        detail = self._detail(status, body)
        if self._ended(response):
            error = ProviderError("provider_failed", f"The model at {self._name} failed ({status}){detail}.")
        elif status in BUSY:
            error = ProviderError("provider_busy", f"{self._name} is busy ({status}).", retryable=True, taken=False)
        elif status in SERVER:
            error = self._failed(f"answered {status}{detail}", taken=False if self._free(response) else None)
        elif status in (401, 402, 403):
            error = ProviderError("provider_denied", f"{self._name} refused our key ({status}){detail}.", taken=False)
        else:
            error = ProviderError("provider_refused", f"{self._name} refused ({status}){detail}.", taken=False)
        error.status, error.retry_after = status, _retry_after(response.headers.get("retry-after"), body)
        raise error

    def _detail(self, status: int, body: bytes) -> str:
        """What an error says of itself, which the client may read: not of a wrong key, since many show parts of it."""
        if status == 401:
            return ""
        said = _said(body)
        for key in self._keys:
            said = said.replace(key, "…")
        return f": {said[:200].rstrip('.')}" if said else ""

    def _pieces(self, response: httpx.Response, limit: int) -> Iterator[bytes]:
        size, latest = 0, time.monotonic() + 4 * self._seconds  # for an answer that drips
        for piece in response.iter_bytes(PIECE):
            size += len(piece)
            if size > limit:
                raise bad_answer(f"it is larger than {limit} bytes")
            if time.monotonic() > latest:
                raise self._failed("answers too slowly")
            yield piece

    def _failed(self, what: str, taken: Any = None) -> ProviderError:
        return ProviderError("provider_unavailable", f"{self._name} {what}.", retryable=True, taken=taken)


def nothing_done(response: httpx.Response) -> bool:
    """Of an endpoint that may be anybody's, what an error 5xx means: that nothing was made and nothing will be charged,
    unless a gateway before it gave up waiting (504, or 524 of Cloudflare), behind which the work goes on."""
    return response.status_code not in (504, 524)


def bad_answer(what: str) -> ProviderError:
    """The error for an answer that is not what the protocol says."""
    return ProviderError("provider_bad_answer", f"The provider's answer cannot be used: {what}.")


def check_host(url: Any, hosts: tuple[str, ...], *bases: str) -> str:
    """A URL out of an answer, if it leads to one of these hosts (or below them) over TLS, or to where a base leads.

    Nothing else is ever asked, whatever an answer says. ProviderError: provider_bad_answer.
    """
    if not isinstance(url, str) or len(url) > 4096:
        raise bad_answer("it holds no URL where one belongs")
    try:
        parts = urlsplit(url)
        origin, host = (parts.scheme, parts.hostname, parts.port), parts.hostname or ""
    except ValueError:
        raise bad_answer("it holds a broken URL") from None
    if any(origin == (b.scheme, b.hostname, b.port) for b in map(urlsplit, bases)):
        return url
    known = any(host == known or host.endswith(f".{known}") for known in hosts)
    if not known or parts.scheme != "https" or parts.port not in (None, 443) or parts.username:
        raise bad_answer("it leads to a host that is not the provider's")
    return url


def _said(body: bytes) -> str:
    """The message in an error, on one line: a text, or the first of several, or inside of an object."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    said: Any = next((found[name] for name in SAID if found.get(name)), None) if isinstance(found, dict) else None
    if isinstance(said, list):
        said = said[0]
    if isinstance(said, dict):
        said = said.get("message", said.get("msg"))
    return " ".join(said.split()) if isinstance(said, str) else ""


def _retry_after(text: str | None, body: bytes) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3): a number, or a date; or from a RetryInfo, as Google's APIs
    have it in the body instead."""
    if text is None:
        found = RETRY_INFO.search(body)
        return float(found[1]) if found else None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    pause = FIRST_PAUSE * 2.0 ** (state.attempt_number - 1) if asked is None else asked
    return float(min(LONGEST_PAUSE, pause))
