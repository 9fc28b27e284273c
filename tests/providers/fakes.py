"""Servers that speak the protocols of Gemini and fal.ai over sockets, and count what they would have charged for."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M/wHwAEBgIApD5fRAAAAABJRU5ErkJggg=="
)
KEY = "secret-key-of-a-test"


@dataclass
class Reply:
    """An answer. `hang`: seconds of silence before it; `cut`: break off in the middle of the body."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: bool = False

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server:
    """What the two have in common. `plans[what]` holds answers to give instead of the usual ones, in order."""

    def __init__(self) -> None:
        self.plans: dict[str, list[Reply]] = defaultdict(list)
        self.calls: list[str] = []
        self.paid = 0
        self.lock = threading.Lock()
        self.changed = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                what, usual = server.route(self.command, self.path, body, dict(self.headers))
                with server.changed:
                    server.calls.append(what)
                    server.changed.notify_all()
                    plan = server.plans[what].pop(0) if server.plans[what] else None
                reply = plan or usual()
                time.sleep(reply.hang)
                raw = reply.raw
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(raw)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw[: len(raw) // 2] if reply.cut else raw)
                if reply.cut:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=[0.01], daemon=True).start()

    def route(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, Callable[[], Reply]]:
        raise NotImplementedError

    def until(self, what: str, count: int = 1, seconds: float = 30.0) -> None:
        """Wait until something was asked so many times."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.calls.count(what) >= count, seconds), f"no {what}: {self.calls}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class FakeGemini(Server):
    """`models/{model}:generateContent`."""

    def __init__(self, picture: bytes = PNG) -> None:
        super().__init__()
        self.picture = picture
        self.asked: list[dict[str, Any]] = []

    def route(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, Callable[[], Reply]]:
        assert (method, path) == ("POST", "/v1beta/models/gemini-nano-banana-2.1:generateContent"), path
        assert headers["x-goog-api-key"] == KEY
        self.asked.append(json.loads(body))
        return "generate", self._generate

    def _generate(self) -> Reply:
        with self.lock:
            self.paid += 1
        inline = {"mimeType": "image/png", "data": base64.b64encode(self.picture).decode()}
        parts = [{"text": "Here it is."}, {"inlineData": inline}]
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
        return Reply(body={"candidates": [candidate], "modelVersion": "gemini-nano-banana-2.1", "responseId": "r1"})


class FakeFal(Server):
    """The queue, the storage and the files of fal.ai. `polls`: how often an order is in work before it is done.
    `obedient`: whether an order that is cancelled ends as one; else it runs on."""

    def __init__(self, result: bytes = b"a video", answer: str = "video") -> None:
        super().__init__()
        self.result, self.answer, self.polls, self.error = result, answer, 1, ""
        self.obedient = True
        self.uploads: dict[str, bytes] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.cancelled: list[str] = []

    def route(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, Callable[[], Reply]]:
        place = path.partition("?")[0]
        with_key = headers.get("Authorization") == f"Key {KEY}"
        assert with_key == (not place.startswith(("/files/", "/put/"))), f"the key and {place}"
        if place == "/storage/upload/initiate":
            return "initiate", self._initiate
        if place.startswith("/put/"):
            self.uploads[place.removeprefix("/put/")] = body
            return "put", Reply
        if place.startswith("/files/"):
            return "download", lambda: Reply(body=self.result)
        if "/requests/" not in place:
            return "submit", lambda: self._submit(place, body)
        request, _, what = place.partition("/requests/")[2].partition("/")
        return what or "result", lambda: self._about(request, what)

    def _initiate(self) -> Reply:
        name = f"{len(self.uploads)}.bin"
        return Reply(body={"upload_url": f"{self.url}/put/{name}?sig=1", "file_url": f"{self.url}/files/{name}"})

    def _submit(self, place: str, body: bytes) -> Reply:
        with self.lock:
            self.paid += 1
            request = f"request-{self.paid}"
        self.orders[request] = {"model": place[1:], "arguments": json.loads(body), "polls": self.polls}
        base = f"{self.url}/{'/'.join(place[1:].split('/')[:2])}/requests/{request}"
        urls = {"status_url": f"{base}/status", "response_url": base, "cancel_url": f"{base}/cancel"}
        return Reply(body={"status": "IN_QUEUE", "request_id": request, "queue_position": 0, **urls})

    def _about(self, request: str, what: str) -> Reply:
        order = self.orders[request]
        if what == "cancel":
            if order["polls"] <= 0:
                return Reply(400, {"status": "ALREADY_COMPLETED"})
            self.cancelled.append(request)
            order["polls"] = 0 if self.obedient else order["polls"]
            return Reply(202, {"status": "CANCELLATION_REQUESTED"})
        if request in self.cancelled and self.obedient:
            gone = {"detail": "The request was cancelled.", "error_type": "client_cancelled"}
            status = {"status": "COMPLETED", "error": gone["detail"], "error_type": gone["error_type"]}
            return (
                Reply(200, status) if what == "status" else Reply(499, gone, {"X-Fal-Error-Type": gone["error_type"]})
            )
        if what == "status":
            order["polls"] -= 1
            if order["polls"] > 0:
                return Reply(202, {"status": "IN_PROGRESS", "logs": None})
            error = {"error": self.error, "error_type": "internal"} if self.error else {}
            return Reply(200, {"status": "COMPLETED", "logs": None, "metrics": {}, **error})
        return Reply(200, {self.answer: {"url": f"{self.url}/files/out.mp4", "content_type": "video/mp4"}})


@contextmanager
def serving(*servers: Server) -> Iterator[None]:
    """Close them in the end."""
    try:
        yield
    finally:
        for server in servers:
            server.close()
