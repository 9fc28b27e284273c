"""A real S3 server (moto's, in a process of its own), and a wire to it that can be cut."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import httpx

from callsheet.actors.stores.s3 import S3Address, S3Store
from callsheet.config.process import dying_with_us
from tests.house.running import free_port

BUCKET = "callsheet-files"
START_SECONDS = 60.0
KEYS = ("testing", "testing-secret")


class ObjectStore:
    """The server. It holds everything in memory, and has one bucket."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with log.open("wb") as sink:
            self._process = subprocess.Popen(dying_with_us(command), stdout=sink, stderr=sink, start_new_session=True)

    def wait(self) -> Self:
        """Until it answers, and has the bucket."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert time.monotonic() < deadline, "the S3 server did not start"
            assert self._process.poll() is None, "the S3 server ended"
            with contextlib.suppress(httpx.TransportError):
                httpx.put(f"{self.url}/{BUCKET}").raise_for_status()
                return self
            time.sleep(0.05)

    def keys(self, prefix: str) -> list[str]:
        """What lies under the prefix."""
        answer = httpx.get(f"{self.url}/{BUCKET}", params={"list-type": "2", "prefix": f"{prefix}/"})
        return re.findall(r"<Key>(.*?)</Key>", answer.raise_for_status().text)

    def settings(self, prefix: str, **changes: str) -> dict[str, str]:
        """What a role is told to keep its files here."""
        return {
            "store_url": f"s3://{BUCKET}/{prefix}",
            "store_endpoint": self.url,
            "store_region": "us-east-1",
            "store_access_key": KEYS[0],
            "store_secret_key": KEYS[1],
            **changes,
        }

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def open_store_at(place: str, root: Path, patience: float = 10.0) -> S3Store:
    """A store at `ENDPOINT BUCKET/PREFIX`, which receives its uploads under `root`."""
    endpoint, _, path = place.partition(" ")
    address = S3Address(f"s3://{path}", endpoint=endpoint, region="us-east-1", credentials=KEYS)
    return S3Store(address, root / "incoming", patience=patience, list_every=0)


class Wire:
    """A TCP relay to a server. `cuts`: for each of the next connections, how many bytes of answers come through before
    it breaks off; None for all. `swap`: bytes in requests that are replaced."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.cuts: list[int | None] = []
        self.swap: tuple[bytes, bytes] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Nobody answers here any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                cut = self.cuts.pop(0) if self.cuts else None
                threading.Thread(target=self._relay, args=(client, cut), daemon=True).start()

    def _relay(self, client: socket.socket, cut: int | None) -> None:
        server = socket.create_connection(("127.0.0.1", self._to))
        with client, server, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while cut is None or cut > 0:
                for key, _ in selector.select():
                    data = key.fileobj.recv(4096)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is client and self.swap:
                        data = data.replace(*self.swap)
                    elif cut is not None and key.fileobj is server:
                        data = data[:cut]
                        cut -= len(data)
                    key.data.sendall(data)
