"""The resumable upload protocol, version 1.0.0: what its headers say, and what holds for all of its answers.

https://tus.io/protocols/resumable-upload: the core and the extensions in EXTENSIONS.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from email.utils import formatdate
from typing import Any

import falcon.asgi

from callsheet.actors.stores.uploads import UploadInfo, UploadState
from callsheet.http.form import clean_filename, clean_media_type
from callsheet.http.problems import Problem

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration"
CHECKSUMS = ("sha1", "sha256", "md5")
BODY_TYPE = "application/offset+octet-stream"
PATH = "/v1/uploads"
MAX_METADATA = 4096
MAX_NUMBER = 2**53  # what a JavaScript client can count to
OVERRIDES = frozenset({"PATCH", "DELETE", "HEAD"})


class TusManners:
    """What the protocol asks of every request and answer, refusals included."""

    def __init__(self, max_size: int) -> None:
        self._max_size = str(max_size)

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Some clients cannot send every method: they say in a header which one they mean."""
        if not is_ours(req):
            return
        override = (req.get_header("X-HTTP-Method-Override") or "").upper()
        if req.method == "POST" and override in OVERRIDES:
            req.method = override
            req.context.overridden = True
        if req.method != "OPTIONS" and req.get_header("Tus-Resumable") != VERSION:
            raise Problem("unsupported_version", f"send Tus-Resumable: {VERSION}", {"Tus-Version": VERSION})

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: Any, _succeeded: bool
    ) -> None:
        """Say which version this is, and when asked for it, what it can do."""
        if not is_ours(req):
            return
        resp.set_header("Tus-Resumable", VERSION)
        if req.method == "HEAD" and getattr(req.context, "overridden", False):
            resp.data = b""  # the client, which sent a POST, would wait for the bytes that are told of and do not come
        if req.method == "OPTIONS":
            resp.set_header("Tus-Version", VERSION)
            resp.set_header("Tus-Extension", EXTENSIONS)
            resp.set_header("Tus-Max-Size", self._max_size)
            resp.set_header("Tus-Checksum-Algorithm", ",".join(CHECKSUMS))


def is_ours(req: falcon.asgi.Request) -> bool:
    """Whether it is about uploads."""
    path: str = req.path
    return path == PATH or path.startswith(f"{PATH}/")


def put_state(resp: falcon.asgi.Response, state: UploadState) -> None:
    """Say how far an upload is, and how long it is kept."""
    resp.set_header("Upload-Offset", str(state.offset))
    resp.set_header("Upload-Expires", formatdate(state.expires, usegmt=True))
    resp.set_header("Cache-Control", "no-store")


def number(req: falcon.asgi.Request, name: str) -> int | None:
    """A header that is a size or a place in bytes; None without it. Raises Problem."""
    text = req.get_header(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > MAX_NUMBER:
        raise Problem("invalid_parameter", f"{name} is a number of bytes")
    return int(text)


def new_upload(req: falcon.asgi.Request) -> UploadInfo:
    """What a creation says of the upload. Raises Problem."""
    if req.get_header("Upload-Concat") is not None:  # better told now than when all the parts are there
        raise Problem("invalid_parameter", "Upload-Concat: uploads are not concatenated here")
    length, deferred = number(req, "Upload-Length"), req.get_header("Upload-Defer-Length")
    if deferred not in (None, "1") or (length is None) == (deferred is None):
        raise Problem("invalid_parameter", "send either Upload-Length or Upload-Defer-Length: 1")
    raw = req.get_header("Upload-Metadata") or ""
    known = _metadata(raw)
    filename, media_type = known.get("filename") or known.get("name"), known.get("filetype") or known.get("type")
    return UploadInfo(length, clean_filename(filename or ""), clean_media_type(media_type or ""), raw)


def has_bytes(req: falcon.asgi.Request) -> bool:
    """Whether the request brings bytes of the file."""
    return (req.content_type or "").partition(";")[0].strip().lower() == BODY_TYPE


def checksum(req: falcon.asgi.Request) -> tuple[str, bytes] | None:
    """The algorithm and the digest that the bytes of the request must have. Raises Problem."""
    header = req.get_header("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, encoded = header.strip().partition(" ")
    if algorithm.lower() not in CHECKSUMS:
        raise Problem("invalid_parameter", f"Upload-Checksum takes {', '.join(CHECKSUMS)}")
    digest = _unencoded(encoded, "Upload-Checksum")
    if len(digest) != hashlib.new(algorithm.lower(), usedforsecurity=False).digest_size:
        raise Problem("invalid_parameter", "Upload-Checksum has a digest of another length")
    return algorithm.lower(), digest


def _metadata(raw: str) -> dict[str, str]:
    if len(raw) > MAX_METADATA:
        raise Problem("invalid_parameter", f"Upload-Metadata takes at most {MAX_METADATA} characters")
    pairs = dict[str, str]()
    for pair in filter(None, (part.strip() for part in raw.split(","))):
        key, _, encoded = pair.partition(" ")
        if key in pairs or not key.isascii():
            raise Problem("invalid_parameter", "the keys of Upload-Metadata are ASCII, and each comes once")
        pairs[key] = _unencoded(encoded, "Upload-Metadata").decode(errors="replace")
    return pairs


def _unencoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Problem("invalid_parameter", f"{where} holds what is not Base64") from None
