"""Submissions put together by hand, over a socket or not."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.http.service import Api

HEAD = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n{more}\r\n"
FORM = {"content-type": "multipart/form-data; boundary=x"}


def form(*parts: tuple[str, str, str], end: str = "--x--\r\n") -> bytes:
    """A form of parts (name, more of the header, content), sent as `FORM` says."""
    pieces = [f'--x\r\nContent-Disposition: form-data; name="{n}"{more}\r\n\r\n{text}\r\n' for n, more, text in parts]
    return ("".join(pieces) + end).encode()


FILE = ("file", '; filename="a.wav"', "noise")
PIPELINE = ("pipeline", "", "sample")


def dial(api: Api, more: str = "Transfer-Encoding: chunked\r\n") -> socket.socket:
    """A connection on which the head of a submission has been sent."""
    link = socket.create_connection(("127.0.0.1", api.port), timeout=60)
    link.sendall(HEAD.format(more=more).encode())
    return link


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def answer_of(link: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of what comes back, until the server closes or the JSON is whole."""
    raw = b""
    while piece := link.recv(65536):
        raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        if body.endswith(b"}"):
            return int(head.split(b" ")[1]), json.loads(body)
    raise AssertionError(f"no answer, but {raw!r}")
