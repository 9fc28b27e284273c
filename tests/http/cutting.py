"""A proxy that cuts connections: each after a number of bytes that its list says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: the connection is reset, not closed


class CuttingProxy:
    """Listens on `port` and passes bytes on to `target`; the n-th connection is cut once it has carried `cuts[n]`
    bytes from the client, by a reset or in good order in turn. One that ends before leaves its number to the next. When
    the list is at its end nothing is cut."""

    def __init__(self, target: int, cuts: Iterable[int]) -> None:
        self._target = target
        self._cuts = list(cuts)
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                limit = self._cuts.pop(0) if self._cuts else None
                threading.Thread(target=self._serve, args=(client, limit), daemon=True).start()

    def _serve(self, client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=pump, args=(server, client), daemon=True).start()
            if not pump(client, server, limit):
                if limit is not None:
                    self._cuts.insert(0, limit)  # it ended by itself before that: the next one is cut there
                return
            self.cut += 1
            for end in (client, server):
                with contextlib.suppress(OSError):
                    if self.cut % 2:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, sink: socket.socket, limit: int | None = None) -> bool:
    """Pass bytes on until the end, or until there were `limit`: then True."""
    carried = 0
    with contextlib.suppress(OSError):
        while piece := source.recv(65536 if limit is None else min(65536, limit - carried)):
            sink.sendall(piece)
            carried += len(piece)
            if carried == limit:
                return True
        sink.shutdown(socket.SHUT_WR)
    return False
