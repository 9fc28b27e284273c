"""The bytes of one request on their way into an upload: what has come is kept, however the request ends."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import Any

from callsheet.actors.errors import Unavailable
from callsheet.actors.stores.files import write_all
from callsheet.actors.stores.uploads import HeldUpload
from callsheet.config.settings import Settings
from callsheet.http.problems import Problem
from callsheet.http.threads import unbroken

BATCH = 1024 * 1024  # bytes written at once, by another thread
RENEW_SECONDS = 30.0  # well below what is reserved beyond the time that an upload is kept
SILENCE_SECONDS = 1.0  # after which somebody else may go on with the upload: this connection may be dead


class Reception:
    """Takes a body into a held upload, `most` bytes at most, and calls `renew` now and then: a body may take longer
    than what is reserved for it holds."""

    def __init__(self, settings: Settings, held: HeldUpload, most: int, renew: Callable[[], Awaitable[None]]) -> None:
        self._settings = settings
        self._renew = renew
        self._renewed = time.monotonic()
        self._held = held
        self._left = most
        self._away = False
        self._batch: list[bytes] = []
        self._waiting = 0

    async def take(self, stream: Any) -> None:
        """Append the body as it comes. Raises Problem, ClientGoneError; what came before is kept."""
        try:
            await self._read(stream, self._held.write)
        finally:
            if not self._away:
                await self._flush(self._held.write)

    async def take_checked(self, stream: Any, algorithm: str, digest: bytes) -> None:
        """Append the body if it has this digest, all of it or nothing. Raises Problem, ClientGoneError."""
        found = hashlib.new(algorithm, usedforsecurity=False)
        with ExitStack() as stack:
            aside = await unbroken(stack.enter_context, self._held.aside())

            def write(piece: bytes) -> None:
                found.update(piece)
                write_all(aside, piece)

            await self._read(stream, write)
            await self._flush(write)
            if found.digest() != digest:
                raise Problem("checksum_mismatch", f"the bytes have another {algorithm}")
            self._come_back()
            await unbroken(self._held.append, Path(aside.name))

    async def _read(self, stream: Any, write: Any) -> None:
        async with aclosing(with_silences(stream, SILENCE_SECONDS)) as pieces:
            async for piece in pieces:
                if piece is None:
                    await self._go_away(write)
                else:
                    await self._add(piece, write)

    async def _add(self, piece: bytes, write: Any) -> None:
        self._come_back()
        if time.monotonic() >= self._renewed + RENEW_SECONDS:
            self._renewed = time.monotonic()
            with suppress(Unavailable):  # it holds until the next time
                await self._renew()
        self._left -= len(piece)
        if self._left < 0:
            raise Problem("upload_too_large", "more bytes than the upload is long")
        self._batch.append(piece)
        self._waiting += len(piece)
        if self._waiting >= BATCH:
            await self._flush(write)

    async def _flush(self, write: Any) -> None:
        batch, coming = b"".join(self._batch), self._waiting
        self._batch, self._waiting = [], 0
        if batch:
            check_room(self._settings, coming)
            await unbroken(write, batch)

    async def _go_away(self, write: Any) -> None:
        """Nothing comes: let the upload go, so that the same client can go on by another connection."""
        if not self._away:
            await self._flush(write)
            self._held.let_go()
            self._away = True

    def _come_back(self) -> None:
        if self._away and not self._held.take_again():
            raise Problem("offset_mismatch", "somebody else has gone on with the upload")
        self._away = False


async def behind(stream: Any, held: HeldUpload, count: int) -> AsyncIterator[bytes]:
    """A body without its first `count` bytes, which are those of the upload already. Raises Problem if they are not."""
    seen = 0
    async for piece in stream:
        rest = piece
        if seen < count and piece:
            known = await unbroken(held.read, seen, min(len(piece), count - seen))
            if not piece.startswith(known):
                raise Problem("idempotency_key_reused", "the upload begins with other bytes")
            seen += len(known)
            rest = piece[len(known) :]
        if rest:
            yield rest


def check_room(settings: Settings, coming: int) -> None:
    """Raise Problem unless the disk has room for so many bytes more."""
    if shutil.disk_usage(settings.data).free - coming < settings.min_free_bytes:
        raise Problem("storage_full")


async def with_silences(stream: Any, seconds: float) -> AsyncGenerator[bytes | None, None]:
    """The pieces of a body, and None whenever none came for so long."""
    source, coming = aiter(stream), None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_next(source))
            if not (await asyncio.wait({coming}, timeout=seconds))[0]:
                yield None
                continue
            piece, coming = coming.result(), None
            if piece is None:
                return
            if piece:
                yield piece
    finally:
        if coming is not None:
            coming.cancel()


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)
