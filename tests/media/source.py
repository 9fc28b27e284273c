"""A server of files that misbehaves on request: the path says how. Its canary is a port that nobody may knock at."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

DATA = random.Random(3).randbytes(1_500_000)
PART = 400_000  # bytes after which a connection is cut


class Source(ThreadingHTTPServer):
    """Serves DATA. `asked` are the requests: the path, and the header Range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.release = threading.Event()
        self.canary = socket.create_server(("127.0.0.1", 0))
        self.canary_port = int(self.canary.getsockname()[1])
        self.where = f"127.0.0.1:{self.server_port}"

    def url(self, how: str) -> str:
        return f"http://{self.where}/{how}"

    def canary_was_touched(self) -> bool:
        """Whether anybody has connected to the canary."""
        self.canary.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            self.canary.accept()[0].close()
            return True
        return False

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()
        self.canary.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is expected."""


class _Handler(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        how = self.path.strip("/").partition("?")[0].partition(".")[0].replace("-", "_")
        self.server.asked.append((self.path, self.headers["Range"]))
        getattr(self, f"_{how}", self._missing)()

    def _begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def _send(self, data: bytes, tag: str = '"one"', most: int = len(DATA)) -> None:
        """As a good server would, with ranges, but for at most so many bytes a connection."""
        start, wanted = 0, self.headers["Range"]
        if wanted and self.headers["If-Range"] == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        rest = data[start:]
        more = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._begin(206 if start else 200, Content_Length=len(rest), Content_Type="audio/wav", ETag=tag, **more)
        self.wfile.write(rest[:most])

    def _whole(self) -> None:
        self._send(DATA)

    def _cut(self) -> None:
        self._send(DATA, most=PART)

    def _cut_without_ranges(self) -> None:
        first = len(self.server.asked) < 3
        self._begin(Content_Length=len(DATA))
        self.wfile.write(DATA[: PART if first else len(DATA)])

    def _changing(self) -> None:
        """Another file at the second connection: If-Range makes it come from its beginning."""
        count = len(self.server.asked)
        self._send(DATA if count == 1 else DATA[::-1], tag=f'"{min(count, 2)}"', most=PART if count == 1 else len(DATA))

    def _another_part(self) -> None:
        if self.headers["Range"]:
            size = len(DATA) - PART  # as long as it should be, but from the beginning
            self._begin(206, Content_Length=size, Content_Range=f"bytes 0-{size - 1}/{len(DATA)}")
            self.wfile.write(DATA[:size])
        else:
            self._send(DATA, most=PART)

    def _in_slices(self) -> None:
        """What is asked for as a rest comes in parts, each of them in good order."""
        if self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            part = DATA[start : start + PART]
            place = f"bytes {start}-{start + len(part) - 1}/{len(DATA)}"
            self._begin(206, Content_Length=len(part), Content_Range=place)
            self.wfile.write(part)
        else:
            self._send(DATA, most=PART)

    def _longer(self) -> None:
        """More comes, the second time, than was said to be there."""
        if self.headers["Range"]:
            self._begin(206, Content_Length=len(DATA), Content_Range=f"bytes {PART}-{len(DATA) - 1}/{len(DATA)}")
            self.wfile.write(DATA)
        else:
            self._send(DATA, most=PART)

    def _dead(self) -> None:
        """Promises much, and closes at once, each time."""
        self._begin(Content_Length=len(DATA), ETag='"x"')

    def _hanging(self) -> None:
        self._begin(Content_Length=len(DATA))
        self.wfile.write(DATA[:1000])
        self.wfile.flush()
        self.server.release.wait(60)

    def _dripping(self) -> None:
        self._begin(Content_Length=len(DATA))
        while not self.server.release.wait(0.01):
            self.wfile.write(b"x")
            self.wfile.flush()

    def _endless(self) -> None:
        self._begin(Transfer_Encoding="chunked")
        while not self.server.release.is_set():
            self.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    def _huge(self) -> None:
        self._begin(Content_Length=10**15)

    def _empty(self) -> None:
        self._begin(Content_Length=0)

    def _packed(self) -> None:
        self._begin(Content_Length=5, Content_Encoding="gzip")
        self.wfile.write(b"hello")

    def _away(self) -> None:
        self._begin(302, Location=f"http://127.0.0.1:{self.server.canary_port}/", Content_Length=0)

    def _busy(self) -> None:
        self._begin(503, Content_Length=0)

    def _busy_once(self) -> None:
        if len(self.server.asked) == 1:
            self._busy()
        else:
            self._whole()

    def _missing(self) -> None:
        self._begin(404, Content_Length=0)

    def log_message(self, *_: object) -> None:
        pass
