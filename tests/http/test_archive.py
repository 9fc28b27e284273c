"""All artifacts as one ZIP, packed while it is sent."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tracemalloc
import zipfile
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from callsheet.http.archive import entries, zipped
from callsheet.jobs.job import FileRef
from tests.http.service import Api, Stages
from tests.small_disk import files_below
from tests.waiting import eventually

MIB = 1 << 20
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def ref(name: str, size: int, media_type: str = "text/plain", folder: str = "7-a") -> FileRef:
    return FileRef(name, folder, media_type, size, hashlib.sha256(name.encode()).hexdigest(), artifact=True)


def pack(files: list[tuple[FileRef, bytes]]) -> zipfile.ZipFile:
    async def read(file: FileRef) -> AsyncGenerator[bytes, None]:
        yield next(content for known, content in files if known is file)

    async def whole() -> bytes:
        return b"".join([piece async for piece in zipped(entries((file, NOW) for file, _ in files), read)])

    return zipfile.ZipFile(io.BytesIO(asyncio.run(whole())))


def test_all_artifacts_come_as_one_zip_under_their_names(api: Api, stages: Stages) -> None:
    job = str(api.submit().json()["id"])
    files = {"long.txt": bytes(MIB), "grüße (1).json": b"{}", "page.html": os.urandom(2 * MIB)}
    stages.complete(job, **files)
    answer = httpx.get(f"{api.url}/v1/jobs/{job}/artifacts.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{job}.zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert {name: archive.read(name) for name in archive.namelist()} == files
    assert len(answer.content) < 2.1 * MIB, "what can be made smaller is"
    assert not [name for name in files_below(api.data) if name.endswith(".zip")]


def test_a_zip_that_the_client_has_is_not_sent_again_until_there_is_more(api: Api, stages: Stages) -> None:
    job = str(api.submit().json()["id"])
    where = f"{api.url}/v1/jobs/{job}/artifacts.zip"
    tag = httpx.get(where).headers["etag"]
    assert httpx.get(where, headers={"If-None-Match": tag}).status_code == 304
    stages.complete(job, **{"a.txt": b"a"})
    assert httpx.get(where, headers={"If-None-Match": tag}).status_code == 200


def test_an_unknown_job_has_no_zip(api: Api) -> None:
    assert httpx.get(f"{api.url}/v1/jobs/{'0' * 32}/artifacts.zip").status_code == 404


def test_packing_ends_when_the_client_goes(api: Api, stages: Stages) -> None:
    job = str(api.submit().json()["id"])
    stages.complete(job, **{"noise.txt": os.urandom(64 * MIB)})
    (path,) = (api.data / "store" / "jobs" / job).rglob("noise.txt")
    with httpx.stream("GET", f"{api.url}/v1/jobs/{job}/artifacts.zip") as answer:
        pieces = answer.iter_raw(1000)  # kept: the connection goes with it
        next(pieces)
        assert readers(api, path) == 1, "a client that does not read on holds the packing up"
    eventually(lambda: readers(api, path) == 0)


def readers(api: Api, path: Path) -> int:
    """How many processes of the API have the file open."""
    family = psutil.Process(api.process.pid).children(recursive=True)
    return sum(path.samefile(file.path) for process in family for file in process.open_files() if path.exists())


def test_names_times_and_ways_of_packing() -> None:
    files = [
        (ref("漢字.txt", 3), b"abc"),
        (ref("film.mp4", 3, "video/mp4"), b"abc"),
        (ref(r"..\\up:*.txt", 3), b"abc"),
        (ref("film.mp4", 3, "video/mp4", folder="9-clip.1"), b"def"),
    ]
    archive = pack(files)
    told = [(i.filename, i.date_time, i.compress_type) for i in archive.infolist()]
    time = (2026, 2, 3, 4, 5, 6)
    assert told == [
        ("漢字.txt", time, zipfile.ZIP_DEFLATED),
        ("film.mp4", time, zipfile.ZIP_STORED),
        ("..__up__.txt", time, zipfile.ZIP_DEFLATED),
        ("9-clip.1/film.mp4", time, zipfile.ZIP_STORED),
    ]
    assert archive.infolist()[0].flag_bits & 0x800, "the name is marked as UTF-8"
    assert archive.testzip() is None


@pytest.mark.parametrize(("size", "version"), [(MIB, 20), (5 << 30, 45)])
def test_a_file_of_more_than_four_gib_gets_the_large_format_and_others_what_every_tool_reads(
    size: int, version: int
) -> None:
    archive = pack([(ref("a.mp4", size, "video/mp4"), b"abc")])
    assert (archive.infolist()[0].extract_version, archive.read("a.mp4")) == (version, b"abc")


def test_a_large_archive_is_never_held_in_memory() -> None:
    piece = os.urandom(MIB // 4)

    async def read(file: FileRef) -> AsyncGenerator[bytes, None]:
        for _ in range(file.bytes // len(piece)):
            yield piece

    async def largest() -> int:
        files = ((ref(f"{n}.mp4", 32 * MIB, "video/mp4"), NOW) for n in range(2))
        return max([len(out) async for out in zipped(entries(files), read)])

    tracemalloc.start()
    try:
        most = asyncio.run(largest())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < MIB
    assert peak < 3 * MIB
