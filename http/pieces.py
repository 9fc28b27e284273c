"""Sending a file in pieces, for as long as somebody is there to get them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import falcon.asgi
import structlog

from callsheet.actors.errors import CallsheetError
from callsheet.http.body import Body
from callsheet.http.problems import Problem

log = structlog.get_logger("api")


class Pieces:
    """A stream of bytes whose first piece is here already. Falcon closes it at the end."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], body: Body) -> None:
        self._first = first
        self._rest = rest
        self._body = body
        self._sent = self._generate()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._sent

    async def close(self) -> None:
        """Let the file go."""
        await self._sent.aclose()
        await self._rest.aclose()  # of one that was never begun

    async def _generate(self) -> AsyncGenerator[bytes, None]:
        """The server drops, at full speed, what nobody is there to get: so it is asked before each piece."""
        leaving = asyncio.ensure_future(self._body.left())
        try:
            async with aclosing(self._rest) as rest:
                yield self._first
                async for piece in rest:
                    if leaving.done():
                        return
                    yield piece
        except (FileNotFoundError, CallsheetError) as error:
            log.warning("a download breaks off", why=str(error))
            # The server cuts the connection, so that the client sees that this is not the whole.
            raise asyncio.CancelledError from error
        finally:
            leaving.cancel()


async def opened(pieces: AsyncGenerator[bytes, None], req: falcon.asgi.Request) -> Pieces:
    """The pieces, once the first is here: what goes wrong before that can still be said. Raises Problem."""
    try:
        first = await anext(pieces, b"")
    except FileNotFoundError:
        raise Problem("not_found") from None  # expired a moment ago
    return Pieces(first, pieces, req.scope["callsheet.body"])
