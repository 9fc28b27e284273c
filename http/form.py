"""The parts of a multipart form, one after the other as they come in, with bounded work whatever is sent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator

import falcon
import falcon.asgi
from falcon.asgi.multipart import BodyPart
from falcon.asgi.reader import BufferedReader
from falcon.media import MultipartFormHandler
from falcon.media.multipart import MultipartParseError, MultipartParseOptions

from callsheet.actors.stores.media_types import BYTES
from callsheet.http.problems import Problem

MAX_PARTS = 16
MAX_NOTHING = 256 * 1024  # bytes outside of any part: preamble, headers, epilogue
MAX_FILENAME = 255
SLICE = 32 * 1024  # well below MAX_NOTHING: the parser is up to three slices ahead of what it gives away
PIECE = 256  # bytes after which a part is looked at; what comes in larger pieces stays so
_MEDIA_TYPE = re.compile(r"[a-z0-9][\w.+-]{0,60}/[a-z0-9][\w.+-]{0,60}\Z", re.ASCII | re.IGNORECASE)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, direction overrides, surrogates …
_JOINERS = "\u200c\u200d"  # Persian, Indian scripts and emoji are spelt with them


class Part:
    """One part: its name, what it says of itself, and its bytes."""

    def __init__(self, part: BodyPart, meter: _Meter) -> None:
        self.name = part.name or ""
        self.filename = clean_filename(part.filename or "")
        self.media_type = clean_media_type(part.content_type)
        self._part = part
        self._meter = meter

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes, as they come. Whoever reads sees to the limit."""
        async for piece in self._part.stream:
            self._meter.useful()
            yield piece

    async def text(self, limit: int) -> str:
        """The whole part as text. Raises Problem."""
        raw = await self._part.stream.read(limit + 1)
        if len(raw) > limit:
            raise Problem("body_too_large", f"the part {self.name!r} takes at most {limit} bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Problem("invalid_multipart", f"the part {self.name!r} is not UTF-8") from None


class _Meter:
    """The body, as long as its bytes are of use, in slices.

    The server hands over what has come in meanwhile, a megabyte at times, and the parser reads ahead: without slices,
    two such pieces in the middle of a file would look like a quarter of a megabyte of nothing.
    """

    def __init__(self, stream: falcon.asgi.BoundedStream) -> None:
        self._pieces = _slices(stream)
        self._useless = 0

    def useful(self) -> None:
        self._useless = 0

    def __aiter__(self) -> _Meter:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._useless += len(piece)
        if self._useless > MAX_NOTHING:
            raise Problem("invalid_multipart", "too much outside of the parts")
        return piece


async def _slices(stream: falcon.asgi.BoundedStream) -> AsyncIterator[bytes]:
    async for piece in stream:
        for start in range(0, len(piece), SLICE):
            yield piece[start : start + SLICE]


async def parts(req: falcon.asgi.Request) -> AsyncIterator[Part]:
    """The parts of the request's form. What is not read of a part is skipped. Raises Problem."""
    if (req.content_type or "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Problem("unsupported_media_type", "send multipart/form-data")
    meter = _Meter(req.stream)
    try:
        body = BufferedReader(meter, PIECE)
        form = await _handler().deserialize_async(body, req.content_type, req.content_length)
        async for part in form:
            meter.useful()
            yield Part(part, meter)
        async for _ in meter:  # the end of the body belongs to the form, or the connection could not be used again
            pass
    except falcon.HTTPInvalidHeader:
        raise Problem("invalid_multipart", "the boundary is missing or malformed") from None
    except MultipartParseError as error:
        raise Problem("invalid_multipart", str(error.description)) from None
    except (ValueError, LookupError):
        raise Problem("invalid_multipart", "a part's headers cannot be read") from None


def _handler() -> MultipartFormHandler:
    options = MultipartParseOptions()
    options.max_body_part_count = MAX_PARTS
    return MultipartFormHandler(options)


def clean_filename(name: str) -> str:
    """A name for people, never a path: its last component without anything invisible, bounded."""
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(c for c in last if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)
    return visible.strip()[:MAX_FILENAME].strip(f" .{_JOINERS}") or "file"


def clean_media_type(text: str) -> str:
    """The media type that a client gives a file, if it has the form of one."""
    return text if _MEDIA_TYPE.match(text) else BYTES
