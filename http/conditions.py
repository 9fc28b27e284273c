"""Preconditions, ranges and query parameters (RFC 9110), parsed strictly."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from email.utils import parsedate_to_datetime

import falcon.asgi
from falcon.util.mediatypes import quality

from callsheet.http.problems import Problem

_KEY = re.compile(r'(?P<quote>"?)(?P<key>[\x21\x23-\x7e]{1,255})(?P=quote)\Z')
_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*')
_SEPARATORS = re.compile(r"[\s,]*")
_RANGE = re.compile(r"bytes=\s*(\d{0,4000})-(\d{0,4000})\Z", re.ASCII | re.IGNORECASE)  # int() takes 4300 digits
_STREAM, _JSON = "text/event-stream", "application/json"


def entity_tags(header: str) -> list[tuple[bool, str]]:
    """The tags of a list, each with whether it is weak; `*` is [(False, "*")]. Raises Problem."""
    if header.strip() == "*":
        return [(False, "*")]
    tags, at = [], 0
    while tag := _TAG.match(header, _behind_commas(header, at)):
        tags.append((tag[1] is not None, tag[2]))
        at = tag.end()
        if _behind_commas(header, at) == len(header):
            return tags
        if header[at] != ",":
            break
    raise Problem("invalid_parameter", "an entity tag is a quoted string")


def _behind_commas(header: str, at: int) -> int:
    """Where a list goes on: elements of it may be empty (RFC 9110, section 5.6.1.2)."""
    end = _SEPARATORS.match(header, at)
    return end.end() if end is not None else at


def wants_stream(req: falcon.asgi.Request) -> bool:
    """Whether the client asks for an event stream: by its name, and not less than for JSON."""
    accept = (req.get_header("Accept") or "").lower()
    try:
        return _STREAM in accept and 0 < quality(_STREAM, accept) >= quality(_JSON, accept)
    except ValueError:  # malformed, but its name is in it
        return True


def refuse_moved(req: falcon.asgi.Request, seq: int) -> None:
    """Raise Problem for a look at a job, or at what is told of it, that `If-Match` wants at another seq."""
    header = req.get_header("If-Match")
    if header is not None and not {(False, str(seq)), (False, "*")} & set(entity_tags(header)):
        raise Problem("precondition_failed", f"the job is at seq {seq}")


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
    if (False, str(seq)) in tags:
        return seq
    numbers = [int(tag) for weak, tag in tags if not weak and tag.isdecimal() and len(tag) < 16]
    if numbers and req.get_header("Idempotency-Key") is not None:
        return max(numbers)  # it may repeat what has moved the job since: the owner knows what came of it
    raise Problem("precondition_failed", f"the job is at seq {seq}")


def is_known(req: falcon.asgi.Request, tag: str, modified: datetime | None = None) -> bool:
    """Whether `If-None-Match`, or else `If-Modified-Since`, says that the client has this version."""
    header = req.get_header("If-None-Match")
    if header is not None:
        return any(value in ("*", tag) for _, value in entity_tags(header))
    since = _date(req, "If-Modified-Since")
    return since is not None and modified is not None and modified.replace(microsecond=0) <= since


def refuse_other_version(req: falcon.asgi.Request, tag: str, modified: datetime) -> None:
    """Raise Problem when `If-Match`, or else `If-Unmodified-Since`, asks for another version than this one."""
    header = req.get_header("If-Match")
    if header is not None:
        if not {(False, tag), (False, "*")} & set(entity_tags(header)):
            raise Problem("precondition_failed", "the artifact has another digest")
        return
    since = _date(req, "If-Unmodified-Since")
    if since is not None and modified.replace(microsecond=0) > since:
        raise Problem("precondition_failed", "the artifact is newer")


def _date(req: falcon.asgi.Request, name: str) -> datetime | None:
    """The date in a header; None for what is none, which is ignored (RFC 9110, section 13.1.3)."""
    try:
        date = parsedate_to_datetime(req.get_header(name) or "")
        return date if date.tzinfo else None
    except (ValueError, OverflowError):
        return None


def wanted_range(req: falcon.asgi.Request, size: int, tag: str) -> tuple[int, int] | None:
    """First and last byte of the one range that is asked for, None for the whole. Raises Problem for one that is not
    there. Several ranges, other units and malformed ones are ignored: the answer is the whole, which every client of
    ranges must take (RFC 9110, section 14.2); 416 would say that the bytes are not there.
    """
    wanted = _RANGE.match(req.get_header("Range") or "")
    if wanted is None or wanted.groups() == ("", "") or not _if_range(req, tag):
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
    """Whether the range may be served: `If-Range` is absent or names exactly this version. A date never does: two
    versions may be of the same second."""
    header = req.get_header("If-Range")
    return header is None or header.strip() == f'"{tag}"'


def whole_number(req: falcon.asgi.Request, name: str, default: int, low: int, high: int) -> int:
    """A query parameter that counts something. Raises Problem."""
    text = req.get_param(name)
    return default if text is None else checked_number(name, text, low, high)


def one_of(req: falcon.asgi.Request, name: str, choices: Collection[str]) -> str:
    """A query parameter that names one of a few, once. Raises Problem."""
    match req.get_param_as_list(name):
        case [str() as text] if text in choices:
            return text
        case _:
            raise Problem("invalid_parameter", f"{name} is one of: {', '.join(sorted(choices))}")


def checked_number(name: str, text: str, low: int, high: int) -> int:
    """A number from outside. Raises Problem."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and low <= int(text) <= high):
        raise Problem("invalid_parameter", f"{name} is a whole number from {low} to {high}")
    return int(text)


def idempotency_key(req: falcon.asgi.Request) -> str | None:
    """The client's name for this request. The draft quotes it, many clients do not: both are the same key."""
    header = req.get_header("Idempotency-Key")
    if header is None:
        return None
    if (key := _KEY.match(header.strip())) is None:
        raise Problem("invalid_parameter", "Idempotency-Key takes 1 to 255 printable characters")
    return key["key"]
