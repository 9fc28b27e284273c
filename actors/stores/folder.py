"""The store in a folder, which all machines share.

    ROOT/incoming/…                    uploads and copies in the making
    ROOT/jobs/JOB/…                    the files of a job, see `store`

A folder of a stage appears whole (write, fsync, rename, fsync of the folder above) or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import filecmp
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from callsheet.actors.errors import CorruptRecord, StoreAway
from callsheet.actors.keys import JOB_ID
from callsheet.actors.stores.files import (
    describe,
    entries_of,
    old_in,
    remove,
    staged,
    storage,
    sweep_old,
    sync_folders,
)
from callsheet.actors.stores.store import INPUT, JOBS, Upload, file_key, folder_key, is_stale, job_key
from callsheet.jobs.job import FileRef
from callsheet.media import disk
from callsheet.pipelines.declare import OutputFile

READ_PIECE = 256 * 1024


class FolderStore:
    """See ArtifactStore."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._jobs = root / JOBS
        self._incoming = root / "incoming"
        for folder in (self._jobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def new_upload(self) -> Upload:
        """See ArtifactStore."""
        with storage():
            return Upload(self._incoming)

    def accept_input(self, job: str, upload: Upload) -> bool:
        """See ArtifactStore."""
        upload.finish()
        target = self.input_path(job)
        with storage():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(upload.path, target)
            except FileNotFoundError:  # asked again: it has its new name already
                return target.exists()
            except FileExistsError:
                os.utime(target.parent.parent)  # its first submission may have come to nothing: this one begins anew
                if not filecmp.cmp(upload.path, target, shallow=False):
                    return False
            upload.discard()
            sync_folders(target.parent, target.parent.parent, self._jobs)
        return True

    def input_path(self, job: str) -> Path:
        """Where the input of a job is."""
        return self.path(job, INPUT, "source")

    def path(self, job: str, folder: str, name: str) -> Path:
        """Where a file is."""
        return self._root / file_key(job, folder, name)

    def publish(self, job: str, folder: str, work: Path, files: Sequence[OutputFile]) -> tuple[FileRef, ...]:
        """See ArtifactStore."""
        if not files:
            return ()
        target = self._root / folder_key(job, folder)
        with storage(), staged(work, files) as ready:
            refs = tuple(describe(ready / file.name, folder, file) for file in files)
            sync_folders(ready)
            if target.exists():
                _check_the_same(target, refs)
            else:
                self._move_into_place(ready, target)
            sync_folders(target.parent, self._jobs)
        return refs

    def locate(self, job: str, file: FileRef, seconds: float) -> str:  # noqa: ARG002  (a path holds for ever)
        """See ArtifactStore."""
        return str(self.path(job, file.folder, file.name))

    async def read(
        self, job: str, file: FileRef, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See ArtifactStore. Read by other threads than the one that serves everybody."""
        path = self.path(job, file.folder, file.name)
        left = file.bytes - start if length is None else length
        stream = await asyncio.to_thread(path.open, "rb")
        try:
            await asyncio.to_thread(stream.seek, start)
            while left > 0 and (piece := await asyncio.to_thread(stream.read, min(READ_PIECE, left))):
                left -= len(piece)
                yield piece
        finally:
            stream.close()
        if left > 0:
            raise CorruptRecord("a stored file is shorter than it was")

    def withdraw(self, job: str, folder: str) -> None:
        """See ArtifactStore."""
        remove(self._root / folder_key(job, folder))
        with contextlib.suppress(OSError):  # the job's folder goes with its last file, and stays with any other
            (self._root / job_key(job)).rmdir()

    def tidy(self, job: str, keep: Sequence[str], before: int) -> None:
        """See ArtifactStore."""
        for folder in entries_of(self._root / job_key(job)):
            if is_stale(folder.name, keep, before):
                remove(folder)

    def remove_job(self, job: str) -> None:
        """See ArtifactStore."""
        remove(self._root / job_key(job))

    def orphans(self, older_than_seconds: float, since: float = 0.0) -> list[str]:
        """See ArtifactStore."""
        return [job.name for job in old_in(self._jobs, older_than_seconds, since) if JOB_ID.match(job.name)]

    def check(self) -> None:
        """See ArtifactStore. On a share that does not answer this hangs, like everything."""
        if not all(os.access(folder, os.R_OK | os.W_OK | os.X_OK) for folder in (self._jobs, self._incoming)):
            raise StoreAway("the store's folder cannot be written")

    def sweep(self, older_than_seconds: float) -> None:
        """See ArtifactStore."""
        sweep_old(self._incoming, older_than_seconds)

    def _move_into_place(self, ready: Path, target: Path) -> None:
        while True:
            target.parent.mkdir(exist_ok=True)
            try:
                ready.rename(target)
                return
            except FileNotFoundError:
                if not ready.exists():
                    raise  # else: a withdrawal took the job's empty folder away between the two lines
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                ready = self._copied(ready)

    def _copied(self, ready: Path) -> Path:
        """The same files on the store's own disk, where a rename is atomic."""
        copy = Path(tempfile.mkdtemp(prefix="copy-", dir=self._incoming))
        try:
            for file in ready.iterdir():
                shutil.copyfile(file, copy / file.name)
                disk.sync(copy / file.name)
            sync_folders(copy)
        except BaseException:
            remove(copy)
            raise
        return copy


def _check_the_same(target: Path, refs: Sequence[FileRef]) -> None:
    """Publishing twice is harmless if it is the same; anything else there is never touched."""
    for ref in refs:
        there = target / ref.name
        as_file = OutputFile(ref.name, ref.media_type, ref.artifact)
        if not there.is_file() or describe(there, ref.folder, as_file) != ref:
            raise FileExistsError(errno.EEXIST, "another publication lies there", ref.folder)
