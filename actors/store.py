"""Where uploads and published files live: the port, and the store in a folder.

    ROOT/incoming/…                    uploads and copies in the making
    ROOT/jobs/JOB/input/source         the upload of a job
    ROOT/jobs/JOB/TOKEN-STAGE/NAME     what one dispatch of a stage published

A folder of a stage appears whole (write, fsync, rename, fsync of the folder above) or not at all, and is never written
again: its name holds the token, so no other dispatch can mean it. Every operation may be repeated.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from callsheet.actors.errors import StorageFull
from callsheet.actors.keys import JOB_ID
from callsheet.jobs.job import FileRef
from callsheet.pipelines.declare import OutputFile

FOLDER = re.compile(r"(?P<token>[1-9][0-9]*)-[a-z0-9_.]+\Z")
INPUT = "input"
MAX_NAME = 200  # bytes; file systems take 255, and a client's shell may add to it
PIECE = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)


class BadFileError(ValueError):
    """A name, or a file in a stage's folder, that cannot be published. The message is for a person."""


class Upload:
    """An upload in the making: write it, then give it to `accept_input`, or discard it."""

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
        """Append some bytes. Raises StorageFull."""
        with _storage():
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]
        self._digest.update(piece)
        self.bytes += len(piece)

    def finish(self) -> None:
        """Have it all on the disk, and close it. Raises StorageFull."""
        if not self._file.closed:
            with _storage():
                os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Remove it. Harmless once it was accepted."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class ArtifactStore(Protocol):
    """What the service asks of a store. What writes may raise StorageFull; an id that is none is a ValueError."""

    def new_upload(self) -> Upload:
        """Begin an upload."""

    def accept_input(self, job: str, upload: Upload) -> bool:
        """Make the upload the input of a job, unless it has one, which is never replaced: two submissions under one
        idempotency key may come here at once, and only one will be the job's. Whether the input is this upload, byte
        for byte; if so it is durable when this returns.
        """

    def input_path(self, job: str) -> Path:
        """Where the input of a job can be read."""

    def publish(self, job: str, folder: str, work: Path, files: Sequence[OutputFile]) -> tuple[FileRef, ...]:
        """Move these files from a work folder into the store, all or none, and say what they are.

        Raises BadFileError for one that is no plain file there, FileExistsError if the folder holds something else.
        """

    def path(self, job: str, folder: str, name: str) -> Path:
        """Where a published file can be read."""

    def withdraw(self, job: str, folder: str) -> None:
        """Remove what one dispatch published."""

    def tidy(self, job: str, keep: Sequence[str], before: int) -> None:
        """Remove the folders of dispatches with a token below `before`, but for those in `keep`."""

    def remove_job(self, job: str) -> None:
        """Remove every file of a job."""

    def orphans(self, older_than_seconds: float) -> list[str]:
        """Jobs with files that did not change lately: whoever has no record of one may `remove_job` it."""

    def sweep(self, older_than_seconds: float) -> None:
        """Remove what crashed processes left of uploads and copies."""


class FolderStore:
    """The store in a folder, which all machines share."""

    def __init__(self, root: Path) -> None:
        self._jobs = root / "jobs"
        self._incoming = root / "incoming"
        for folder in (self._jobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def new_upload(self) -> Upload:
        """See ArtifactStore."""
        with _storage():
            return Upload(self._incoming)

    def accept_input(self, job: str, upload: Upload) -> bool:
        """See ArtifactStore."""
        upload.finish()
        target = self.input_path(job)
        with _storage():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(upload.path, target)
            except FileNotFoundError:  # asked again: it has its new name already
                return target.exists()
            except FileExistsError:
                if not filecmp.cmp(upload.path, target, shallow=False):
                    return False
            upload.discard()
            sync_folders(target.parent, target.parent.parent, self._jobs)
        return True

    def input_path(self, job: str) -> Path:
        """See ArtifactStore."""
        return self._job(job) / INPUT / "source"

    def publish(self, job: str, folder: str, work: Path, files: Sequence[OutputFile]) -> tuple[FileRef, ...]:
        """See ArtifactStore."""
        if not files:
            return ()
        target = self._folder(job, folder)
        with _storage(), _staged(work, files) as staged:
            refs = tuple(_describe(staged / file.name, folder, file) for file in files)
            sync_folders(staged)
            if target.exists():
                _check_the_same(target, refs)
            else:
                self._move_into_place(staged, target)
            sync_folders(target.parent, self._jobs)
        return refs

    def path(self, job: str, folder: str, name: str) -> Path:
        """See ArtifactStore."""
        return self._folder(job, folder) / plain_name(name)

    def withdraw(self, job: str, folder: str) -> None:
        """See ArtifactStore."""
        _remove(self._folder(job, folder))
        with contextlib.suppress(OSError):  # the job's folder goes with its last file, and stays with any other
            self._job(job).rmdir()

    def tidy(self, job: str, keep: Sequence[str], before: int) -> None:
        """See ArtifactStore."""
        for folder in _entries(self._job(job)):
            name = FOLDER.match(folder.name)
            if name and int(name["token"]) < before and folder.name not in keep:
                _remove(folder)

    def remove_job(self, job: str) -> None:
        """See ArtifactStore."""
        _remove(self._job(job))

    def orphans(self, older_than_seconds: float) -> list[str]:
        """See ArtifactStore."""
        return [job.name for job in _old(self._jobs, older_than_seconds) if JOB_ID.match(job.name)]

    def sweep(self, older_than_seconds: float) -> None:
        """See ArtifactStore."""
        for left in _old(self._incoming, older_than_seconds):
            _remove(left)

    def _job(self, job: str) -> Path:
        if not JOB_ID.match(job):
            raise ValueError("not the id of a job")
        return self._jobs / job

    def _folder(self, job: str, folder: str) -> Path:
        if not FOLDER.match(folder):
            raise ValueError("not the folder of a stage")
        return self._job(job) / folder

    def _move_into_place(self, staged: Path, target: Path) -> None:
        while True:
            target.parent.mkdir(exist_ok=True)
            try:
                staged.rename(target)
                return
            except FileNotFoundError:
                if not staged.exists():
                    raise  # else: a withdrawal took the job's empty folder away between the two lines
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                staged = self._copied(staged)

    def _copied(self, staged: Path) -> Path:
        """The same files on the store's own disk, where a rename is atomic."""
        copy = Path(tempfile.mkdtemp(prefix="copy-", dir=self._incoming))
        for file in staged.iterdir():
            shutil.copyfile(file, copy / file.name)
            _sync(copy / file.name)
        sync_folders(copy)
        return copy


def stage_folder(token: int, stage: str) -> str:
    """The folder that a dispatch publishes into: `12-clip.3` for the instance `clip:3`."""
    return f"{token}-{stage.replace(':', '.')}"


def plain_name(name: str) -> str:
    """The name, if a file in a folder may be called so. Raises BadFileError."""
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name.encode()) > MAX_NAME:
        raise BadFileError(f"{name[:MAX_NAME]!r} is not a plain file name")
    return name


def sync_folders(*folders: Path) -> None:
    """Have the names in these folders on the disk."""
    for folder in folders:
        _sync(folder)


@contextlib.contextmanager
def _staged(work: Path, files: Sequence[OutputFile]) -> Iterator[Path]:
    """The files alone in a folder of their own, beside whatever else the stage left in its work folder."""
    if len({file.name for file in files}) < len(files):
        raise BadFileError("two output files have the same name")
    staged = Path(tempfile.mkdtemp(prefix=".publish-", dir=work))
    for file in files:
        source = work / plain_name(file.name)
        if not _is_regular(source):
            raise BadFileError(f"{file.name!r} is not a file in the stage's folder")
        source.rename(staged / file.name)
    staged.chmod(0o755)
    yield staged


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _describe(path: Path, folder: str, file: OutputFile) -> FileRef:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
        os.fsync(stream.fileno())
    return FileRef(file.name, folder, file.media_type, size, digest.hexdigest(), file.artifact)


def _check_the_same(target: Path, refs: Sequence[FileRef]) -> None:
    """Publishing twice is harmless if it is the same; anything else there is never touched."""
    for ref in refs:
        there = target / ref.name
        as_file = OutputFile(ref.name, ref.media_type, ref.artifact)
        if not there.is_file() or _describe(there, ref.folder, as_file) != ref:
            raise FileExistsError(errno.EEXIST, "another publication lies there", ref.folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _old(folder: Path, seconds: float) -> Iterator[Path]:
    for entry in _entries(folder):
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            if time.time() - entry.lstat().st_mtime >= seconds:
                yield entry


def _remove(path: Path) -> None:
    """Remove a file or a tree; what is gone already is fine, what cannot be removed is an OSError."""
    if path.is_dir() and not path.is_symlink():
        for _ in range(3):  # a file that a dying process adds meanwhile makes rmtree stumble
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull from error
        raise
