"""Clients as they come from their registries upload through connections that are cut, and what arrives is whole."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
from tusclient import client as tuspy
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader.uploader import Uploader

from tests.clients.node import Node
from tests.http.cutting import CuttingProxy
from tests.http.service import Api
from tests.http.tus import submit

pytestmark = pytest.mark.timeout(400)  # the first test of a machine installs the clients, and others wait for it
SIZE = 6_000_000
SCRIPT = Path(__file__).parents[1] / "clients" / "upload.cjs"
PATIENCE = 100


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sent") / "talk.wav"
    path.write_bytes(random.Random(7).randbytes(SIZE))
    return path


def cuts(seed: int, count: int) -> list[int]:
    """Where connections are cut: anywhere, in the middle of a request's headers too."""
    chance = random.Random(seed)
    return [chance.choice((chance.randrange(1, 400), chance.randrange(400, SIZE // 8))) for _ in range(count)]


@pytest.fixture(params=[1, 2, 3])
def proxy(api: Api, request: pytest.FixtureRequest) -> Iterator[CuttingProxy]:
    with CuttingProxy(api.port, cuts(request.param, 8)) as proxy:
        yield proxy


def check_job(client: httpx.Client, url: str, file: Path) -> None:
    """What was uploaded is what was sent, as the job has it."""
    answer = submit(client, upload=url)
    assert answer.status_code == 202, answer.text
    sent = hashlib.sha256(file.read_bytes()).hexdigest()
    found = answer.json()["input"]
    assert (found["sha256"], found["bytes"], found["filename"]) == (sent, SIZE, "talk.wav")
    assert found["media_type"] == "audio/wav"


@pytest.mark.parametrize("chunk", ["all", "1000000"])
def test_tus_js_client_resumes_whatever_is_cut(
    node: Node, proxy: CuttingProxy, client: httpx.Client, file: Path, chunk: str
) -> None:
    url = node.run(SCRIPT, f"http://127.0.0.1:{proxy.port}/v1/uploads", str(file), chunk, "talk.wav", seconds=PATIENCE)
    assert proxy.cut, "nothing was cut"
    check_job(client, url.strip(), file)


@pytest.mark.parametrize("checked", [False, True])
def test_tuspy_resumes_whatever_is_cut(proxy: CuttingProxy, client: httpx.Client, file: Path, checked: bool) -> None:
    there = tuspy.TusClient(f"http://127.0.0.1:{proxy.port}/v1/uploads")
    uploader = create(there, file, checked)
    for _ in range(30):
        try:
            uploader.upload()
            break
        except (TusCommunicationError, requests.RequestException):
            uploader = again(there, file, checked, str(uploader.url))
    assert proxy.cut, "nothing was cut"
    check_job(client, str(uploader.url), file)


def create(there: tuspy.TusClient, file: Path, checked: bool) -> Uploader:
    metadata = {"filename": "talk.wav", "filetype": "audio/wav"}
    for _ in range(30):
        try:
            uploader = there.uploader(str(file), metadata=metadata, chunk_size=900_000, upload_checksum=checked)
            uploader.set_url(uploader.create_url())
            return uploader
        except (TusCommunicationError, requests.RequestException):
            continue
    raise AssertionError("no upload could be begun")


def again(there: tuspy.TusClient, file: Path, checked: bool, url: str) -> Uploader:
    """Come back as a new process would: by the upload's address alone, from where the server is."""
    for _ in range(30):
        try:
            return there.uploader(str(file), url=url, chunk_size=900_000, upload_checksum=checked)
        except (TusCommunicationError, requests.RequestException):
            continue
    raise AssertionError("the upload could not be gone on with")
