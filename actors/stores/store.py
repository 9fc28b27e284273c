"""Where uploads and published files live: the port. Its implementations are `folder` and `s3`, beside it.

    jobs/JOB/input/source         the upload of a job
    jobs/JOB/TOKEN-STAGE/NAME     what one dispatch of a stage published

These are paths in a folder, or keys in a bucket. What is there is whole and is never written again: the name holds
the token, so no other dispatch can mean it. Every operation may be repeated. Uploads are received on a local disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from callsheet.actors.keys import JOB_ID
from callsheet.actors.stores.files import BadFileError, plain_name, storage, write_all
from callsheet.actors.tenants.quota import Claim
from callsheet.jobs.job import FileRef, InputRef
from callsheet.pipelines.declare import OutputFile

__all__ = [
    "ORPHAN_SECONDS",
    "ArtifactStore",
    "BadFileError",
    "Place",
    "Remote",
    "Upload",
    "file_key",
    "folder_key",
    "input_file",
    "is_stale",
    "job_key",
    "stage_folder",
]

JOBS = "jobs"
INPUT = "input"
ORPHAN_SECONDS = 3600.0  # files that nobody has touched for so long, and no job knows, were left behind
FOLDER = re.compile(r"(?P<token>[1-9][0-9]*)-[a-z0-9_.]+\Z")


class Remote(msgspec.Struct, frozen=True):
    """A stored file that is not on this machine: an address that needs no key, and what will come from there."""

    url: str
    bytes: int
    sha256: str


Place = str | Remote  # a path on this machine, or where to get the file from


class Upload:
    """An upload in the making: write it, then give it to `accept_input`, or discard it. `claim`: who is asked before it
    grows, and told when it is discarded."""

    claim: Claim | None = None

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix="upload-", dir=folder)
        self.path = Path(name)
        self.bytes = 0
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest (hex) of what was written so far."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append some bytes. Raises StorageFull; QuotaExceeded and Unavailable of its claim."""
        if self.claim is not None:
            self.claim.grow(self.bytes + len(piece))
        write_all(self._file, piece)
        self._digest.update(piece)
        self.bytes += len(piece)

    def finish(self) -> None:
        """Have it all on the disk, and close it. Raises StorageFull."""
        if not self._file.closed:
            with storage():
                os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Remove it. Harmless once it was accepted."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        if self.claim is not None:
            self.claim.drop()


class ArtifactStore(Protocol):
    """What the service asks of a store. An id or a folder that is none is a ValueError.

    What writes may raise StorageFull; everything may raise StoreAway (try again later) if the store is elsewhere.
    """

    def new_upload(self) -> Upload:
        """Begin an upload."""

    def accept_input(self, job: str, upload: Upload) -> bool:
        """Make the upload the input of a job, unless it has one, which is never replaced: two submissions under one
        idempotency key may come here at once, and only one will be the job's. Whether the input is this upload, byte
        for byte; if so it is durable when this returns.
        """

    def publish(self, job: str, folder: str, work: Path, files: Sequence[OutputFile]) -> tuple[FileRef, ...]:
        """Move these files from a work folder into the store, and say what they are: all are there, whole and durable,
        when this returns. Publishing the same again is harmless.

        Raises BadFileError for one that is no plain file there, FileExistsError if the folder holds something else.
        """

    def locate(self, job: str, file: FileRef, seconds: float) -> Place:
        """Where the file can be read during the next `seconds`. Asks nobody whether it is there."""

    def read(self, job: str, file: FileRef, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """Pieces of the file: `length` bytes from `start`, to its end if None. Close it when you stop early.

        Raises FileNotFoundError at the first piece, CorruptRecord if the file is shorter than its record says.
        """

    def withdraw(self, job: str, folder: str) -> None:
        """Remove what one dispatch published."""

    def tidy(self, job: str, keep: Sequence[str], before: int) -> None:
        """Remove the folders of dispatches with a token below `before`, but for those in `keep`."""

    def remove_job(self, job: str) -> None:
        """Remove every file of a job."""

    def orphans(self, older_than_seconds: float, since: float = 0.0) -> list[str]:
        """Jobs with files that did not change lately, but after `since` (s since the epoch): whoever has no record of
        one may `remove_job` it."""

    def check(self) -> None:
        """Raise StoreAway unless files can be kept now, as far as one cheap look can tell."""

    def sweep(self, older_than_seconds: float) -> None:
        """Remove what crashed processes left of uploads and copies."""


def stage_folder(token: int, stage: str) -> str:
    """The folder that a dispatch publishes into: `12-clip.3` for the instance `clip:3`."""
    return f"{token}-{stage.replace(':', '.')}"


def input_file(ref: InputRef) -> FileRef:
    """The input of a job as a file in the store."""
    return FileRef("source", INPUT, ref.media_type, ref.bytes, ref.sha256)


def job_key(job: str) -> str:
    """What the keys of all files of a job begin with. Raises ValueError."""
    if not JOB_ID.match(job):
        raise ValueError("not the id of a job")
    return f"{JOBS}/{job}"


def folder_key(job: str, folder: str) -> str:
    """What the keys of all files that one dispatch published begin with. Raises ValueError."""
    if not FOLDER.match(folder):
        raise ValueError("not the folder of a stage")
    return f"{job_key(job)}/{folder}"


def file_key(job: str, folder: str, name: str) -> str:
    """The key of a file. Raises ValueError (BadFileError for its name)."""
    above = f"{job_key(job)}/{INPUT}" if folder == INPUT else folder_key(job, folder)
    return f"{above}/{plain_name(name)}"


def is_stale(folder: str, keep: Sequence[str], before: int) -> bool:
    """Whether `tidy` removes that folder of a job."""
    name = FOLDER.match(folder)
    return name is not None and int(name["token"]) < before and folder not in keep
