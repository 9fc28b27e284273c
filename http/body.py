"""Reading a request's body on our terms: not before somebody wants it, not slower than a floor, not more than a cap.

The server has no deadline for bodies, and Falcon takes a connection that breaks off for the end of the body. So this
sits between the two and turns what goes wrong into exceptions.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import falcon.asgi
import msgspec

from callsheet.http.problems import ClientGoneError, Problem

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
App = Callable[[MutableMapping[str, Any], Receive, Callable[[Event], Awaitable[None]]], Awaitable[None]]

MIN_RATE = 1024  # bytes a second that a body must bring, after a first allowance of `patience` seconds
MAX_JSON = 256 * 1024
MAX_DEPTH = 32
MAX_DIGITS = 1000
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 * 1024 * 1024


class Body:
    """One request's body."""

    def __init__(self, receive: Receive, patience: float) -> None:
        self._receive = receive
        self._patience = patience
        self._begun = self._ended = False
        self._leaving: asyncio.Task[None] | None = None
        self._started = 0.0
        self._bytes = 0

    async def receive(self) -> Event:
        """ASGI's receive. The first event is made up, so that the client is asked for its body only when it is wanted
        (a refusal then comes before the `100 Continue`)."""
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": True}
        if self._ended:
            return await self._receive()  # somebody waits for the client to go
        self._started = self._started or time.monotonic()
        event = await self._within(self._allowance())
        self._bytes += len(event.get("body", b""))
        self._ended = not event.get("more_body", False)
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        return event

    def _allowance(self) -> float:
        """Seconds until the next piece must be here: never more than `patience`, less when it all came too slowly."""
        due = self._started + self._patience + self._bytes / MIN_RATE
        return min(self._patience, due - time.monotonic())

    async def _within(self, seconds: float) -> Event:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await self._receive()
        except TimeoutError:
            self._ended = True
            raise Problem("body_timeout", headers={"Connection": "close"}) from None

    async def left(self) -> None:
        """Wait until the client goes. For answers without end: the server says nothing when nobody hears them.

        Any number of times: for the server a wait that was given up means that the client has gone, so there is one.
        """
        self._ended = True  # nothing more is wanted of the body: what comes now is that the client has gone
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._until_left())
        await asyncio.shield(self._leaving)

    async def _until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """The request is over: wait for nothing any more."""
        if self._leaving is not None:
            self._leaving.cancel()

    async def discard(self) -> None:
        """Read on for a moment after an early answer: closing at once would reset the connection, and the answer
        would be lost with it."""
        if self._ended or not self._begun:
            return
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and not self._ended:
                    event = await self._receive()
                    self._ended = not event.get("more_body", False)
                    left -= len(event.get("body", b""))
        except TimeoutError:
            return


def guarded(app: Any, patience: float) -> App:
    """The application, each of its requests with a `Body`."""

    async def call(scope: MutableMapping[str, Any], receive: Receive, send: Any) -> None:
        if scope["type"] == "websocket" and scope["http_version"] == "1.0":  # there is none; Falcon would raise
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        body = scope["callsheet.body"] = Body(receive, patience)
        try:
            await app(scope, body.receive, send)
        finally:
            body.close()
        await body.discard()

    return call


async def read_json(req: falcon.asgi.Request) -> dict[str, Any]:
    """The body as a JSON object, `{}` when there is none. Raises Problem."""
    raw = await read_bytes(req, MAX_JSON)
    if not raw:
        return {}
    if req.content_type and not req.content_type.partition(";")[0].strip().lower().endswith("json"):
        raise Problem("unsupported_media_type", "send application/json")
    return parse_object(raw)


async def read_bytes(req: falcon.asgi.Request, limit: int) -> bytes:
    """The whole body, `limit` bytes at most. Raises Problem."""
    if (req.content_length or 0) > limit:
        raise Problem("body_too_large", f"at most {limit} bytes")
    pieces, size = [], 0
    async for piece in req.stream:
        size += len(piece)
        if size > limit:
            raise Problem("body_too_large", f"at most {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in these bytes; see `parse_json`. Raises Problem."""
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise Problem("invalid_json", "an object is expected")
    return value


def parse_json(raw: bytes) -> Any:
    """JSON without the corners in which parsers disagree: no repeated keys, no NaN, no numbers that become infinite,
    no lone surrogates, no depth that eats the stack. Raises Problem."""
    try:
        value = msgspec.json.decode(raw)
        json.loads(raw, object_pairs_hook=_unique, parse_int=_short, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise Problem("invalid_json", "nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Problem("invalid_json", str(error)[:200]) from None
    if _deeper_than(value, MAX_DEPTH):
        raise Problem("invalid_json", "nested too deeply")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is repeated")
    return members


def _short(text: str) -> str:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number is too long")
    return text


def _finite(text: str) -> float:
    if not math.isfinite(number := float(_short(text))):
        raise ValueError("a number is too large")
    return number


def _deeper_than(value: Any, depth: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(_deeper_than(child, depth - 1) for child in children)
