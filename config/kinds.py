"""The kinds of values that settings take, each checked and normalised in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field
from pydantic_settings import NoDecode

REDIS_SCHEMES = ("redis", "rediss", "unix")
# Bucket names as S3 has them, and a prefix of plain parts.
BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*/?")


class SettingsError(Exception):
    """The settings contradict themselves or the machine. The message is one line that says what to change."""


def half_the_cores() -> int:
    """Half of the cores this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def _redis_address(url: str | None) -> str | None:
    if url is not None and urlsplit(url).scheme not in REDIS_SCHEMES:
        raise ValueError(f"must start with one of {', '.join(s + '://' for s in REDIS_SCHEMES)}")
    return url


def next_database(url: str) -> str:
    """The address of the database after this one, on the same server. As its clients do: `?db=` before the path."""
    parts = urlsplit(url)
    query, path = dict(parse_qsl(parts.query)), parts.path.strip("/")
    if parts.scheme == "unix" or "db" in query:
        more = urlencode({**query, "db": int(query.get("db", 0)) + 1})
        return f"{url.partition('?')[0]}?{more}"
    return parts._replace(path=f"/{int(path) + 1 if path.isdecimal() else 1}").geturl()


def _bucket(url: str | None) -> str | None:
    if url is not None and not BUCKET.fullmatch(url):
        raise ValueError("must be of the form s3://bucket or s3://bucket/prefix, without anything else")
    return url


def _web_address(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be of the form https://host or https://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a name or a password: there are settings for the key")
    return url.rstrip("/")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _comma_separated(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _pipeline_reference(name: str) -> str:
    if not re.fullmatch(r"[\w.]+:[\w.]+", name):
        raise ValueError(f"{name!r} is not of the form package.module:attribute")
    return name


def _host_and_port(address: str) -> str:
    if not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}", address, re.ASCII):
        raise ValueError(f"{address!r} is not of the form host:port")
    return address.lower()


Folder = Annotated[Path, AfterValidator(_absolute)]
RedisUrl = Annotated[str | None, BeforeValidator(_none_if_empty), AfterValidator(_redis_address)]
BucketUrl = Annotated[str | None, BeforeValidator(_none_if_empty), AfterValidator(_bucket)]
BaseUrl = Annotated[
    Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+(/[\w.~/-]*)?$", max_length=2000)] | None,
    BeforeValidator(_none_if_empty),
]
WebAddress = Annotated[str | None, BeforeValidator(_none_if_empty), AfterValidator(_web_address)]
Names = Annotated[
    tuple[Annotated[str, AfterValidator(_pipeline_reference)], ...],
    NoDecode,
    BeforeValidator(_comma_separated),
]
StageNames = Annotated[
    tuple[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_.-]*\.[a-z][a-z0-9_]*)$")], ...],
    NoDecode,
    BeforeValidator(_comma_separated),
]
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(_host_and_port)], ...],
    NoDecode,
    BeforeValidator(_comma_separated),
]
Hosts = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)], ...],
    NoDecode,
    BeforeValidator(_comma_separated),
]
HOUR = 3600.0
DAY = 86_400.0
CENTURY = 36_525 * DAY  # a time that lies further ahead could soon not be written down (RFC 3339 ends with year 9999)
Seconds = Annotated[float, Field(gt=0, le=CENTURY)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Delays = Annotated[tuple[Seconds, ...], NoDecode, BeforeValidator(_comma_separated)]
Count = Annotated[int, Field(ge=1)]
Slots = Annotated[int, Field(ge=0)]
Size = Annotated[ByteSize, Field(gt=0)]
MIB = 1024 * 1024
GIB = 1024 * MIB
