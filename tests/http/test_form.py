"""The form parser over pieces of any size: what the server hands over at once says nothing of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from callsheet.http.form import MAX_NOTHING, MAX_PARTS, parts
from callsheet.http.problems import Problem

FILE = bytes(range(256)) * 8192  # 2 MiB
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


async def _stream(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def _contents(body: bytes, size: int) -> list[bytes]:
    request = SimpleNamespace(
        stream=_stream(body, size), content_type="multipart/form-data; boundary=x", content_length=len(body)
    )
    return [b"".join([p async for p in part.pieces()]) async for part in parts(cast("Any", request))]


@pytest.mark.parametrize("size", [100, 4096, 65_536, 300_000, 1_000_000, 10_000_000])
def test_a_large_file_comes_through_in_pieces_of_any_size(size: int) -> None:
    assert asyncio.run(_contents(HEAD + FILE + b"\r\n--x--\r\n", size)) == [FILE]


def test_parts_are_counted_whatever_they_are() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="more"\r\n\r\n1\r\n'
    assert asyncio.run(_contents(part * MAX_PARTS + b"--x--\r\n", 4096)) == [b"1"] * MAX_PARTS
    with pytest.raises(Problem) as refused:
        asyncio.run(_contents(part * (MAX_PARTS + 1) + b"--x--\r\n", 4096))
    assert (refused.value.code, refused.value.status) == ("invalid_multipart", 400)


@pytest.mark.parametrize("size", [4096, 10_000_000])
def test_bytes_outside_of_the_parts_are_bounded(size: int) -> None:
    preamble = b"." * (2 * MAX_NOTHING)
    with pytest.raises(Problem, match="outside of the parts"):
        asyncio.run(_contents(preamble + HEAD + b"abc\r\n--x--\r\n", size))
