"""A disk that is full: uploads are answered 507 and leave nothing, and with room again the same request is taken."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.http.by_hand import chunk, dial
from tests.http.service import Api, submit
from tests.http.tus import TUS, begin, offset, patch
from tests.small_disk import SmallDisk
from tests.waiting import eventually

MIB = 1 << 20
DATA = os.urandom(2 * MIB)
MakeDisk = Callable[[Path, int], SmallDisk]


@pytest.fixture
def disk(make_disk: MakeDisk, tmp_path: Path) -> SmallDisk:
    """The disk of the store alone, so that the look at the free room of the data folder does not see it fill."""
    return make_disk(tmp_path / "data" / "store", 6 * MIB)


@pytest.fixture
def api(disk: SmallDisk, make_api: Callable[..., Api]) -> Api:
    return make_api(data=str(disk.path.parent), min_free_bytes="1")


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_submission_that_does_not_fit_is_507_leaves_nothing_and_fits_later(api: Api, disk: SmallDisk) -> None:
    disk.fill(leave=MIB)
    key = os.urandom(8).hex()
    for _ in range(2):
        assert refused(submit(api.url, DATA, key=key)) == (507, "storage_full")
        eventually(lambda: (disk.files(), disk.free) == ([], MIB))
    assert httpx.get(f"{api.url}/readyz").status_code == 200  # jobs can be read, and forgotten, which makes room
    disk.empty()
    taken = submit(api.url, DATA, key=key)
    assert taken.status_code == 202, taken.text
    [file] = disk.files()
    assert (disk.path / file).read_bytes() == DATA


def test_a_submission_of_unknown_length_is_cut_where_the_room_ends(api: Api, disk: SmallDisk) -> None:
    disk.fill(leave=MIB // 2)
    head = b'--x\r\nContent-Disposition: form-data; name="pipeline"\r\n\r\nsample\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + DATA
    with dial(api) as link:
        link.sendall(chunk(head) + chunk(file) + chunk(b"\r\n--x--\r\n") + b"0\r\n\r\n")
        assert b" 507 " in link.recv(4096).partition(b"\r\n")[0]
    eventually(lambda: disk.files() == [])


def test_a_piece_that_does_not_fit_is_507_and_the_upload_goes_on_later(api: Api, disk: SmallDisk) -> None:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        path = begin(client, len(DATA))
        disk.fill(leave=MIB)
        assert refused(patch(client, path, 0, DATA)) == (507, "storage_full")
        kept = offset(client, path)
        assert kept <= MIB
        assert len(disk.files()) == 2  # `data` and `info`
        disk.empty()
        assert patch(client, path, kept, DATA[kept:]).status_code == 204
        told = {"upload": path.rpartition("/")[2], "pipeline": "sample"}
        taken = client.post("/v1/jobs", json=told)
    assert taken.json()["input"]["sha256"] == hashlib.sha256(DATA).hexdigest()


def test_a_checked_piece_that_does_not_fit_counts_for_nothing(api: Api, disk: SmallDisk) -> None:
    checksum = {"Upload-Checksum": f"sha256 {base64.b64encode(hashlib.sha256(DATA).digest()).decode()}"}
    with httpx.Client(base_url=api.url, timeout=60) as client:
        path = begin(client, len(DATA))
        disk.fill(leave=MIB)
        assert refused(patch(client, path, 0, DATA, **checksum)) == (507, "storage_full")
        assert (offset(client, path), len(disk.files())) == (0, 2)
        disk.empty()
        assert patch(client, path, 0, DATA, **checksum).status_code == 204


def test_an_upload_that_cannot_be_begun_leaves_nothing(api: Api, disk: SmallDisk) -> None:
    disk.fill()
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert refused(client.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"})) == (507, "storage_full")
        eventually(lambda: disk.files() == [])
        disk.empty()
        path = begin(client, 10)
        disk.fill()
        assert refused(patch(client, path, 0, b"x" * 10)) == (507, "storage_full")
        disk.empty()
        assert patch(client, path, offset(client, path), b"x" * 10).status_code == 204


def test_below_the_room_to_keep_nothing_is_taken_but_jobs_are_served(
    make_disk: MakeDisk, make_api: Callable[..., Api], tmp_path: Path
) -> None:
    disk = make_disk(tmp_path / "data", 8 * MIB)
    api = make_api(data=str(disk.path), min_free_bytes=str(2 * MIB))
    job = api.submit(DATA).json()["id"]
    disk.fill(leave=MIB)
    assert refused(api.submit(b"a sound")) == (507, "storage_full")
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert refused(client.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"})) == (507, "storage_full")
        assert client.post(f"/v1/jobs/{job}/cancel").status_code == 202
    disk.empty()
    assert api.submit(b"a sound").status_code == 202
