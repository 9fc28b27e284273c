"""A ZIP written while it is sent: no temporary file, and no more in memory than a piece and the table of contents."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, closing
from datetime import UTC, datetime
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from callsheet.actors.stores.media_types import DENSE, bare_type
from callsheet.jobs.job import FileRef

READABLE = 0o100644 << 16  # a plain file that everybody may read, where the unpacker keeps modes
UNSAFE = re.compile(r'[\\:*?"<>|]')  # what Windows takes for a path, or for no name at all
Read = Callable[[FileRef], AsyncGenerator[bytes, None]]


class Entry(NamedTuple):
    """A file under the name that it gets in the archive."""

    name: str
    at: datetime
    file: FileRef


def entries(published: Iterable[tuple[FileRef, datetime]]) -> list[Entry]:
    """The files of an archive. One whose name is taken goes into the folder of its stage."""
    taken: set[str] = set()
    found = []
    for file, at in published:
        name = UNSAFE.sub("_", file.name)
        name = f"{file.folder}/{name}" if name in taken else name
        taken.add(name)
        found.append(Entry(name, at.astimezone(UTC), file))
    return found


async def zipped(packed: Iterable[Entry], read: Read) -> AsyncGenerator[bytes, None]:
    """The archive in pieces. Sizes and checksums follow each file's bytes, so nothing is read twice."""
    sink = _Sink()
    with ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # it asks for no more than `write` and `flush`
        for entry in packed:
            with closing(archive.open(_info(entry), "w")) as target:
                async with aclosing(read(entry.file)) as pieces:
                    async for piece in pieces:
                        await asyncio.to_thread(target.write, piece)  # deflate takes its time
                        if out := sink.take():
                            yield out
            if out := sink.take():
                yield out
    yield sink.take()


def _info(entry: Entry) -> ZipInfo:
    info = ZipInfo(entry.name, entry.at.timetuple()[:6])
    info.compress_type = ZIP_STORED if bare_type(entry.file.media_type) in DENSE else ZIP_DEFLATED
    info.external_attr = READABLE
    info.file_size = entry.file.bytes  # with this it knows whether the entry needs ZIP64
    return info


class _Sink:
    """Where the archive is written to: what was written since it was last asked."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written
