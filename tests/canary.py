"""A file that nobody may open, and a port that nobody may knock at, by TCP or UDP, over IPv4 or IPv6."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Self

from tests.media.running import OpenWatch


class Canary:
    """Tells who has touched it. The file's content is what an attacker would like to see again."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.file = folder / "canary.wav"
        self.file.write_bytes(content)
        self._watch = OpenWatch(self.file)
        self._sockets = _listening()
        self.port = int(self._sockets[0].getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/canary.wav"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def touched(self) -> list[str]:
        """How it was touched since it was last asked: `file`, `tcp`, `udp`."""
        found = ["file"] if self._watch.opened() else []
        for one in self._sockets:
            with contextlib.suppress(BlockingIOError):
                if one.type == socket.SOCK_STREAM:
                    one.accept()[0].close()
                    found.append("tcp")
                else:
                    one.recv(1)
                    found.append("udp")
        return found


def _listening() -> list[socket.socket]:
    """Sockets on one port of loopback."""
    first = socket.create_server(("127.0.0.1", 0))
    port = first.getsockname()[1]
    made = [first]
    for family, host, kind in (
        (socket.AF_INET6, "::1", socket.SOCK_STREAM),
        (socket.AF_INET, "127.0.0.1", socket.SOCK_DGRAM),
        (socket.AF_INET6, "::1", socket.SOCK_DGRAM),
    ):
        one = socket.socket(family, kind)
        with contextlib.suppress(OSError):  # no IPv6 here, or that port is somebody's
            one.bind((host, port))
            if kind == socket.SOCK_STREAM:
                one.listen()
            made.append(one)
    for one in made:
        one.setblocking(False)
    return made
