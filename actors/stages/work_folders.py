"""Where stages work: a folder for each run, gone after it; what a killed worker leaves, the others remove.

ROOT/WORKER.lock    held (flock) by a living worker: the kernel lets go of it, however the worker dies
ROOT/WORKER/RUN     the work folder of one run
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import structlog

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

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder, removed at the end with all that is in it."""
        folder = self._home / name
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                log.warning("a work folder could not be removed", folder=name)

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


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
