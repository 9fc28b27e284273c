"""A disk that is really small: a tmpfs of the test's own, which it fills and empties."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path


def files_below(folder: Path) -> list[str]:
    """The files below a folder that others work in: what goes while we look is no error, as it is to `rglob`."""
    return [os.path.relpath(Path(at, name), folder) for at, _, names in os.walk(folder) for name in names]


class MountRefusedError(Exception):
    """This machine does not let us mount. The message says why."""


class SmallDisk:
    """A tmpfs of `size` bytes at `path`, until `unmount`."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._ballast = path / "ballast"
        path.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise MountRefusedError(done.stderr.strip())

    @property
    def free(self) -> int:
        """Bytes that still fit."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all room but `leave` bytes."""
        with self._ballast.open("wb") as file:
            for _ in range(100):  # others write there meanwhile
                try:
                    return os.posix_fallocate(file.fileno(), 0, max(1, self.free - leave))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        raise AssertionError("the room there is changes too quickly to be taken")

    def empty(self) -> None:
        """Give it back."""
        self._ballast.unlink()

    def files(self) -> list[str]:
        """What else lies there."""
        return sorted(set(files_below(self.path)) - {self._ballast.name})

    def unmount(self) -> None:
        """Take it away; a process that still dies there does not hold it up."""
        subprocess.run(["umount", "--lazy", self.path], check=True)
