"""Getting a file from an address that somebody else has given: only from checked addresses, within bounds, and going
on where it broke off.

A server says with `ETag` or `Last-Modified` which file it is, and with `Accept-Ranges` or 206 that it can go on
(RFC 9110, 13 and 14). Where it says neither, a broken download starts again. What it says of lengths is checked.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx
import msgspec

from callsheet.media import limits
from callsheet.media.addresses import check_url
from callsheet.media.errors import FULL, MediaError, no_room
from callsheet.media.pinned import client, resolve

SILENCE_SECONDS = 30.0
CONNECT_SECONDS = 10.0
MOST_SECONDS = 4 * 3600.0
MIN_RATE, GRACE_SECONDS = 1024, 60.0  # bytes a second over all, after a while: a file that drips is given up
RESUMES = 20  # connections that may break before the try is given up; each has to have brought something
_TYPE = re.compile(r"[a-z0-9][\w.+-]{0,60}/[a-z0-9][\w.+-]{0,60}\Z", re.ASCII | re.IGNORECASE)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)\Z", re.ASCII)
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Callsheet"}
BROKEN = (httpx.TransportError, httpx.StreamError)


class Download(msgspec.Struct, frozen=True):
    """A file that has come: its size, its digest (hex), and what its server calls it."""

    bytes: int
    sha256: str
    media_type: str


def download(
    url: str,
    path: Path,
    progress: Callable[[float, str], None] = lambda _fraction, _message: None,
    log: Callable[[str], None] = lambda _line: None,
) -> Download:
    """Get the file under an address into `path`.

    Raises ForbiddenUrlError, UnknownHostError; MediaError `fetch_failed` and `storage_full` (retryable where trying
    again can help), `upload_too_large`, `empty_file`.
    """
    checked = check_url(url, limits.current().addresses)
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    with path.open("wb", buffering=0) as file:
        transfer = _Transfer(file, progress)
        while True:
            # Looked up for each connection, and checked: the name may lead elsewhere by now.
            with client(checked, resolve(checked), timeout=timeout) as http:
                if transfer.attempt(http, checked.url):
                    return transfer.result()
            log(f"It broke off after {transfer.bytes} bytes: going on.")


class _Transfer:
    """A file on its way, over as many connections as it takes."""

    def __init__(self, file: IO[bytes], progress: Callable[[float, str], None]) -> None:
        self.bytes = 0
        self._file = file
        self._progress = progress
        self._digest = hashlib.sha256()
        self._most = limits.current().bytes
        self._total: int | None = None
        self._validator: str | None = None
        self._media_type = "application/octet-stream"
        self._broken = 0
        self._came = False
        self._begun = time.monotonic()

    def attempt(self, http: httpx.Client, url: str) -> bool:
        """Get what is left; False if the connection broke and another may go on. Raises MediaError."""
        self._came = False
        try:
            with http.stream("GET", url, headers=self._headers()) as answer:
                self._begin(answer)
                for piece in answer.iter_raw():
                    self._take(piece)
        except BROKEN as error:
            why = f"the connection broke ({type(error).__name__})"
        else:
            if self._total is None or self.bytes == self._total:
                return True
            why = "the file has another length than its server says"
        self._broken += 1
        if not self._came or self._broken > RESUMES or self.bytes > (self._total or self._most):
            raise _failed(why, retryable=True)
        return False

    def result(self) -> Download:
        """What has come."""
        if self.bytes == 0:
            raise MediaError("empty_file", "The file at that address is empty.")
        return Download(self.bytes, self._digest.hexdigest(), self._media_type)

    def _headers(self) -> dict[str, str]:
        if self.bytes == 0 or self._validator is None:
            self._restart()
            return _HEADERS
        return {**_HEADERS, "Range": f"bytes={self.bytes}-", "If-Range": self._validator}

    def _begin(self, answer: httpx.Response) -> None:
        if answer.status_code == 206 and self.bytes > 0:
            self._go_on(answer)
            return
        if answer.status_code != 200:
            raise _refused(answer.status_code)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _failed("its server compresses it though asked not to")
        self._restart()
        self._total = _length(answer)
        self._check_size(self._total or 0)
        self._validator = _validator(answer)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        self._media_type = media_type if _TYPE.match(media_type) else self._media_type

    def _go_on(self, answer: httpx.Response) -> None:
        """Check that this is the rest of the same file."""
        given = _RANGE.match(answer.headers.get("Content-Range", "").strip())
        if given is None or int(given[1]) != self.bytes:
            raise _failed("its server sent another part than it was asked for", retryable=True)
        if given[3] != "*" and self._total not in (None, int(given[3])):
            raise _failed("the file has changed while it was fetched", retryable=True)
        self._total = self._total if given[3] == "*" else int(given[3])

    def _take(self, piece: bytes) -> None:
        self._came = True
        self.bytes += len(piece)
        self._check_size(self.bytes)
        seconds = time.monotonic() - self._begun
        if seconds > MOST_SECONDS or self.bytes < MIN_RATE * (seconds - GRACE_SECONDS):
            raise _failed("it comes too slowly", retryable=True)
        self._write(piece)
        self._digest.update(piece)
        if self._total:
            self._progress(min(1.0, self.bytes / self._total), f"{self.bytes} of {self._total} bytes")

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            if error.errno in FULL:
                raise no_room() from None
            raise

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise MediaError("upload_too_large", f"The file is larger than {self._most} bytes.")

    def _restart(self) -> None:
        self.bytes, self._total, self._validator = 0, None, None
        self._digest = hashlib.sha256()
        self._file.seek(0)
        self._file.truncate()


def _failed(why: str, *, retryable: bool = False) -> MediaError:
    return MediaError("fetch_failed", f"The file cannot be fetched: {why}.", retryable=retryable)


def _refused(status: int) -> MediaError:
    if 300 <= status < 400:
        return _failed(f"its address answers with a redirect ({status}), and none is followed: give the final address")
    return _failed(f"its server answers {status}", retryable=status >= 500 or status in {408, 416, 425, 429})


def _length(answer: httpx.Response) -> int | None:
    text = answer.headers.get("Content-Length")
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _validator(answer: httpx.Response) -> str | None:
    """What `If-Range` may hold: a strong entity tag, else the date. None where the server cannot go on."""
    tag: str = answer.headers.get("ETag", "")
    date: str | None = answer.headers.get("Last-Modified")
    if answer.headers.get("Accept-Ranges", "").lower() == "none":
        return None
    return tag if tag.startswith('"') else date
