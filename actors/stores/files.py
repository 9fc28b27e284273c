"""Files on their way into a store: which may go, what they are, having them on the disk, and clearing up."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from callsheet.actors.errors import StorageFull
from callsheet.jobs.job import FileRef
from callsheet.media import disk
from callsheet.media.errors import FULL
from callsheet.pipelines.declare import OutputFile

MAX_NAME = 200  # bytes; file systems take 255, and a client's shell may add to it
PIECE = 1 << 20


class BadFileError(ValueError):
    """A name, or a file in a stage's folder, that cannot be published. The message is for a person."""


def plain_name(name: str) -> str:
    """The name, if a file in a folder may be called so. Raises BadFileError."""
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name.encode()) > MAX_NAME:
        raise BadFileError(f"{name[:MAX_NAME]!r} is not a plain file name")
    return name


@contextlib.contextmanager
def storage() -> Iterator[None]:
    """A full disk is a StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull from error
        raise


def write_all(file: IO[bytes], piece: bytes) -> None:
    """Write all of it, though a file without a buffer takes only what fits. Raises StorageFull."""
    with storage():
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]


@contextlib.contextmanager
def staged(work: Path, files: Sequence[OutputFile]) -> Iterator[Path]:
    """The files alone in a folder of their own, beside whatever else the stage left in its work folder."""
    if len({file.name for file in files}) < len(files):
        raise BadFileError("two output files have the same name")
    folder = Path(tempfile.mkdtemp(prefix=".publish-", dir=work))
    for file in files:
        source = work / plain_name(file.name)
        if not _is_regular(source):
            raise BadFileError(f"{file.name!r} is not a file in the stage's folder")
        source.rename(folder / file.name)
    folder.chmod(0o755)
    yield folder


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def describe(path: Path, folder: str, file: OutputFile, *, sync: bool = True) -> FileRef:
    """What a file is: its size, its digest. With `sync` it is on the disk afterwards."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
        if sync:
            os.fsync(stream.fileno())
    return FileRef(file.name, folder, file.media_type, size, digest.hexdigest(), file.artifact)


def sync_folders(*folders: Path) -> None:
    """Have the names in these folders on the disk."""
    for folder in folders:
        disk.sync(folder)


def entries_of(folder: Path) -> list[Path]:
    """What is in a folder, if it is there."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def old_in(folder: Path, seconds: float, since: float = 0.0) -> Iterator[Path]:
    """What in a folder was not touched for so long, but after `since` (s since the epoch)."""
    for entry in entries_of(folder):
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            if since <= entry.lstat().st_mtime <= time.time() - seconds:
                yield entry


def remove(path: Path) -> None:
    """Remove a file or a tree; what is gone already is fine, what cannot be removed is an OSError."""
    if path.is_dir() and not path.is_symlink():
        for _ in range(3):  # a file that a dying process adds meanwhile makes rmtree stumble
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep_old(folder: Path, seconds: float) -> None:
    """Remove what in a folder was not touched for so long."""
    for left in old_in(folder, seconds):
        remove(left)
