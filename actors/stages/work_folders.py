"""Where stages work: an empty folder for each run, emptied after it; what a killed worker leaves, the others remove.

ROOT/WORKER.lock     held (flock) by a living worker: the kernel lets go of it, however the worker dies
ROOT/WORKER/NUMBER   the work folder of one run
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from callsheet.actors.stores.files import storage

log = structlog.get_logger("worker")
LOCK = ".lock"


class WorkFolders:
    """The work folders of this process."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self.name, self._lock = self._claim_a_name()
        self._home = root / self.name
        self._home.mkdir()
        self._numbers = itertools.count(1)
        self._empty: list[Path] = []

    @contextlib.contextmanager
    def folder(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Path]:
        """An empty folder for one run, removed at the end with all that is in it. Raises StorageFull.

        One that is still empty serves again, unless the run was `stopped` or failed: where Redis fsyncs on the same
        disk, making a folder and removing it waits for that (an eighth of the time of a stage that does nothing).
        """
        folder = self._take()
        kept = False
        try:
            yield folder
            kept = not stopped() and _is_empty(folder)
        finally:
            if kept:
                self._empty.append(folder)
            else:
                self._remove(folder)

    def _take(self) -> Path:
        with contextlib.suppress(IndexError):
            return self._empty.pop()
        folder = self._home / str(next(self._numbers))
        with storage():
            folder.mkdir(mode=stat.S_IRWXU)
        return folder

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            log.warning("a work folder could not be removed", folder=str(folder))

    def sweep(self) -> None:
        """Remove the folders of workers that have died."""
        for lock in self._root.glob(f"*{LOCK}"):
            if lock.stem != self.name:
                self._remove_if_dead(lock)

    def close(self) -> None:
        """Remove everything of this process."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._path_of(self.name).unlink(missing_ok=True)
        os.close(self._lock)

    def _claim_a_name(self) -> tuple[str, int]:
        while True:
            name = secrets.token_hex(4)
            lock = os.open(self._path_of(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _locked(lock) and self._path_of(name).exists():
                return name, lock
            os.close(lock)  # somebody's sweep was between the two lines

    def _remove_if_dead(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _locked(lock):
                    home = self._root / path.stem
                    shutil.rmtree(home, ignore_errors=True)
                    if not home.exists():  # else at the next sweep
                        path.unlink(missing_ok=True)
                        log.info("removed what a dead worker left", worker=path.stem)
            finally:
                os.close(lock)

    def _path_of(self, name: str) -> Path:
        return self._root / f"{name}{LOCK}"


def _is_empty(folder: Path) -> bool:
    """Whether it is there, as it was made, with nothing in it."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None and stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
    except OSError:
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
