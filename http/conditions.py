"""Preconditions, ranges and query parameters (RFC 9110), parsed strictly."""

from __future__ import annotations

import re

import falcon.asgi

from callsheet.http.problems import Problem

_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*')
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


def entity_tags(header: str) -> list[tuple[bool, str]]:
    """The tags of a list, each with whether it is weak; `*` is [(False, "*")]. Raises Problem."""
    if header.strip() == "*":
        return [(False, "*")]
    tags, at = [], 0
    while tag := _TAG.match(header, at):
        tags.append((tag[1] is not None, tag[2]))
        at = tag.end()
        if at == len(header):
            return tags
        if header[at] != ",":
            break
        at += 1
    raise Problem("invalid_parameter", "an entity tag is a quoted string")


def seq_expected(req: falcon.asgi.Request, seq: int) -> int | None:
    """What `If-Match` demands of a job that is at `seq`: that number, or nothing. Raises Problem when it cannot be met.

    The owner checks it again: between this look and its decision the job may move.
    """
    header = req.get_header("If-Match")
    if header is None:
        return None
    tags = entity_tags(header)
    if tags == [(False, "*")]:
        return None
    if (False, str(seq)) not in tags:
        raise Problem("precondition_failed", f"the job is at seq {seq}")
    return seq


def is_known(req: falcon.asgi.Request, tag: str) -> bool:
    """Whether `If-None-Match` says that the client has this version."""
    header = req.get_header("If-None-Match")
    if header is None:
        return False
    return any(value in ("*", tag) for _, value in entity_tags(header))


def wanted_range(req: falcon.asgi.Request, size: int, tag: str) -> tuple[int, int] | None:
    """First and last byte of the one range that is asked for, None for the whole. Raises Problem for one that is not
    there. Several ranges, other units and malformed ones are ignored, as RFC 9110 allows: the answer is the whole.
    """
    wanted = _RANGE.match(req.get_header("Range") or "")
    if wanted is None or wanted[0] == "bytes=-" or not _if_range(req, tag):
        return None
    first, last = wanted[1], wanted[2]
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last or size - 1), size - 1)
        if last and int(last) < int(first):
            return None
    if start > end:
        raise Problem("range_not_satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return start, end


def _if_range(req: falcon.asgi.Request, tag: str) -> bool:
    """Whether the range may be served: `If-Range` is absent or names exactly this version."""
    header = req.get_header("If-Range")
    return header is None or header.strip() == f'"{tag}"'


def whole_number(req: falcon.asgi.Request, name: str, default: int, low: int, high: int) -> int:
    """A query parameter that counts something. Raises Problem."""
    text = req.get_param(name)
    return default if text is None else checked_number(name, text, low, high)


def checked_number(name: str, text: str, low: int, high: int) -> int:
    """A number from outside. Raises Problem."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and low <= int(text) <= high):
        raise Problem("invalid_parameter", f"{name} is a whole number from {low} to {high}")
    return int(text)
