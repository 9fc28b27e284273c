"""A disk that is really small: a tmpfs of the test's own, which it fills and empties."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


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
            os.posix_fallocate(file.fileno(), 0, self.free - leave)

    def empty(self) -> None:
        """Give it back."""
        self._ballast.unlink()

    def files(self) -> list[str]:
        """What else lies there."""
        found = (path for path in self.path.rglob("*") if path.is_file() and path != self._ballast)
        return sorted(str(path.relative_to(self.path)) for path in found)

    def unmount(self) -> None:
        """Take it away; a process that still dies there does not hold it up."""
        subprocess.run(["umount", "--lazy", self.path], check=True)
