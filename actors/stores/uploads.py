"""Uploads that come in pieces and may break off: on the disk, byte by byte, until a job takes them.

    ROOT/TENANT/ID/data    what has arrived; its length is the offset, so nothing else can say otherwise
    ROOT/TENANT/ID/info    what is known of it (JSON), replaced as a whole

TENANT is a digest of the tenant's name, so that an upload is found only by whoever owns it. `data` only ever grows.
Whoever changes an upload holds a lock on its `data` (flock), which the system lets go of with the process that holds
it; on NFS it holds across machines, and is let go of when the server gives up the machine's lease.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import msgspec

from callsheet.actors.errors import CallsheetError, CorruptRecord
from callsheet.actors.stores.files import PIECE, storage, sync_folders
from callsheet.actors.stores.media_types import BYTES
from callsheet.actors.stores.store import Upload
from callsheet.config.settings import Settings

UPLOAD_ID = re.compile(r"[0-9a-f]{32}\Z")
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)  # what a rename onto a folder with something in it says
UNMADE_SECONDS = 3600.0  # after which a folder without `info`, left by a crash, is removed


class UploadUnknown(CallsheetError):  # noqa: N818
    """There is no such upload."""

    code = "not_found"


class UploadLocked(CallsheetError):  # noqa: N818
    """Somebody else is writing to the upload."""

    code = "upload_locked"


class UploadInfo(msgspec.Struct, frozen=True):
    """What the client said of an upload. `length` in bytes, None until it is known; `metadata` as it was sent."""

    length: int | None
    filename: str = "file"
    media_type: str = BYTES
    metadata: str = ""


_info = msgspec.json.Decoder(UploadInfo)


class UploadState(msgspec.Struct, frozen=True):
    """How far an upload is. `offset` in bytes, all of them on the disk; `expires` in seconds since the epoch."""

    info: UploadInfo
    offset: int
    expires: float


class UploadStore:
    """All uploads that are no job's yet. An upload is kept for `keep` seconds after something last arrived."""

    def __init__(self, root: Path, keep: float) -> None:
        self._root = root
        self._keep = keep

    def create(self, tenant: str, upload: str, info: UploadInfo) -> bool:
        """Begin an upload under this id; False if there is one already. Raises StorageFull.

        It is made under another name first: under its own it is there whole, and of those who try one has made it.
        """
        folder = self._folder(tenant, upload)
        made = folder.with_name(f"new-{secrets.token_hex(8)}")
        with storage():
            made.mkdir(parents=True)
            try:
                (made / "data").touch()
                write_info(made, info)
                made.rename(folder)
            except OSError as error:
                remove(made)
                if error.errno not in TAKEN:
                    raise
                return False
            sync_folders(folder.parent, self._root)
        return True

    def look(self, tenant: str, upload: str) -> UploadState:
        """How far it is. Raises UploadUnknown."""
        folder = self._folder(tenant, upload)
        try:
            with (folder / "data").open("rb") as data:
                offset = os.fstat(data.fileno()).st_size
                os.fsync(data.fileno())  # a promise: not even a power cut takes the offset back
                return self._state(folder, data, offset)
        except FileNotFoundError:
            raise UploadUnknown from None

    def hold(self, tenant: str, upload: str) -> HeldUpload:
        """Take hold of it; close it afterwards. Raises UploadUnknown, UploadLocked."""
        folder = self._folder(tenant, upload)
        try:
            data = open_data(folder)
        except FileNotFoundError:
            raise UploadUnknown from None
        try:
            lock(data)
            return HeldUpload(folder, data, self._state(folder, data, os.fstat(data.fileno()).st_size))
        except FileNotFoundError:  # it was removed between the two
            data.close()
            raise UploadUnknown from None
        except BaseException:
            data.close()
            raise

    def sweep(self) -> None:
        """Remove what has expired, and what crashes have left."""
        for folder in self._root.glob("*/*"):
            with contextlib.suppress(FileNotFoundError, UploadLocked), open_data(folder) as data:
                lock(data)
                age = time.time() - os.fstat(data.fileno()).st_mtime
                if age >= (self._keep if (folder / "info").exists() else UNMADE_SECONDS):
                    remove(folder)
            with contextlib.suppress(OSError):
                folder.rmdir()  # one that has lost its files already

    def _state(self, folder: Path, data: IO[bytes], offset: int) -> UploadState:
        try:
            info = _info.decode((folder / "info").read_bytes())
        except msgspec.MsgspecError as error:
            raise CorruptRecord from error
        expires = os.fstat(data.fileno()).st_mtime + self._keep
        if expires <= time.time():
            raise UploadUnknown
        return UploadState(info, offset, expires)

    def _folder(self, tenant: str, upload: str) -> Path:
        if not UPLOAD_ID.match(upload):
            raise UploadUnknown
        return self._root / hashlib.sha256(tenant.encode()).hexdigest()[:32] / upload


def new_upload_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_hex(16)


def open_uploads(settings: Settings) -> UploadStore:
    """The uploads of these settings: on the disk of the store in a folder, so that it takes one without copying it."""
    return UploadStore(settings.data / "store" / "uploads", settings.upload_keep_seconds)


class HeldUpload:
    """An upload that nobody else changes meanwhile. Blocks; not for several threads at once."""

    def __init__(self, folder: Path, data: IO[bytes], state: UploadState) -> None:
        self._folder = folder
        self._data = data
        self._keep = state.expires - os.fstat(data.fileno()).st_mtime
        self.info = state.info
        self.offset = state.offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> UploadState:
        """How far it is, all of it on the disk. Raises StorageFull."""
        with storage():
            os.fsync(self._data.fileno())
        return UploadState(self.info, self.offset, os.fstat(self._data.fileno()).st_mtime + self._keep)

    def write(self, piece: bytes) -> None:
        """Append some bytes. Raises StorageFull; what fitted stays."""
        with storage():
            view = memoryview(piece)
            while view:
                written = self._data.write(view)
                self.offset += written
                view = view[written:]

    def append(self, piece: Path) -> None:
        """Append a file. Raises StorageFull; what fitted stays."""
        with piece.open("rb") as source:
            while some := source.read(PIECE):
                self.write(some)

    def read(self, start: int, size: int) -> bytes:
        """Bytes that are there, `size` at most."""
        with (self._folder / "data").open("rb") as data:
            data.seek(start)
            return data.read(size)

    @contextlib.contextmanager
    def aside(self) -> Iterator[IO[bytes]]:
        """A file for bytes that are not the upload's yet, until they are seen to be good. Raises StorageFull."""
        with storage(), tempfile.NamedTemporaryFile(dir=self._folder, prefix="aside-", buffering=0) as file:
            yield file

    def declare(self, length: int) -> None:
        """Say how long it will be. Raises StorageFull."""
        self.info = msgspec.structs.replace(self.info, length=length)
        with storage():
            write_info(self._folder, self.info)
            os.utime(self._data.fileno())

    def let_go(self) -> None:
        """Let others have it; `take_again` before writing on."""
        fcntl.flock(self._data, fcntl.LOCK_UN)

    def take_again(self) -> bool:
        """Hold it once more; False if somebody else does, or has changed it meanwhile."""
        try:
            lock(self._data)
        except (UploadLocked, FileNotFoundError):
            return False
        return os.fstat(self._data.fileno()).st_size == self.offset

    def as_input(self) -> FinishedUpload:
        """The whole upload, for a job to take. It stays here as well, until it is removed."""
        return FinishedUpload(self._folder / "data", self.offset)

    def remove(self) -> None:
        """Have it no more."""
        remove(self._folder)

    def close(self) -> None:
        """Let go of it for good."""
        self._data.close()


class FinishedUpload(Upload):
    """What a store takes for an upload that it has seen come in; discarding it leaves the file to its owner."""

    def __init__(self, path: Path, size: int) -> None:  # it makes no file of its own
        self.path = path
        self.bytes = size
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256")
            os.fsync(file.fileno())

    def head(self, size: int) -> bytes:
        """Its first `size` bytes."""
        with self.path.open("rb") as file:
            return file.read(size)

    def finish(self) -> None:
        """It is on the disk already."""

    def discard(self) -> None:
        """Its owner removes it."""


def open_data(folder: Path) -> IO[bytes]:
    """The bytes of an upload, to append to. Raises FileNotFoundError."""
    return os.fdopen(os.open(folder / "data", os.O_WRONLY | os.O_APPEND), "ab", buffering=0)


def lock(data: IO[bytes]) -> None:
    """Take the lock. Raises UploadLocked; FileNotFoundError for what was removed since it was opened: under its name
    there may be another one by now."""
    try:
        fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UploadLocked from None
    if os.fstat(data.fileno()).st_nlink == 0:
        raise FileNotFoundError


def write_info(folder: Path, info: UploadInfo) -> None:
    """Replace what is known of an upload, durably."""
    fresh = folder / f"info-{secrets.token_hex(4)}"
    try:
        with fresh.open("xb") as file:
            file.write(msgspec.json.encode(info))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / "info")
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folders(folder)


def remove(folder: Path) -> None:
    """Remove an upload; whoever looks for it meanwhile finds it whole or not at all."""
    (folder / "info").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
