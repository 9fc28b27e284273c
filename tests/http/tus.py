"""A client of tus, as plain as can be, and what it looks at."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx

from callsheet.actors.stores.uploads import (
    UploadLocked,
    UploadStore,
)
from tests.http.service import Api

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
DATA = os.urandom(3_000_000)


def begin(client: httpx.Client, length: int | None = len(DATA), /, **headers: str) -> str:
    said = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = client.post("/v1/uploads", headers={**TUS, **said, **headers})
    assert (answer.status_code, answer.headers["tus-resumable"]) == (201, "1.0.0"), answer.text
    return str(answer.headers["location"])


def patch(client: httpx.Client, path: str, offset: object, data: Any, **headers: str) -> httpx.Response:
    return client.patch(path, headers={**BYTES, "Upload-Offset": str(offset), **headers}, content=data)


def offset(client: httpx.Client, path: str) -> int:
    answer = client.head(path, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def stored(api: Api, path: str) -> bytes:
    """What lies on the disk of an upload."""
    [file] = (api.data / "store" / "uploads").glob(f"*/{path.rpartition('/')[2]}/data")
    return file.read_bytes()


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["tus-resumable"] == "1.0.0"
    return answer.status_code, answer.json()["code"]


def unlocked(api: Api, path: str) -> bool:
    try:
        UploadStore(api.data / "store" / "uploads", 60).hold("default", path.rpartition("/")[2]).close()
    except UploadLocked:
        return False
    return True


class Slow:
    """A PATCH over a socket of its own, which sends what it is told."""

    method = "PATCH"

    def __init__(self, api: Api, path: str, start: int, length: int, /, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", urlsplit(api.url).port or 0), 20)
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.socket.sendall(
            f"{self.method} {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {start}\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n{more}\r\n".encode()
        )

    def answer(self) -> bytes:
        return self.socket.recv(65536)


def submit(client: httpx.Client, key: str | None = None, **members: Any) -> httpx.Response:
    """Submit by JSON."""
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/jobs", json={"pipeline": "sample", **members}, headers=headers)


def digest(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"
