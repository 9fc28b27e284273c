"""Every address that this service must not be sent to, sent as what clients may name: nobody is knocked at."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.canary import Canary
from tests.http.service import Api
from tests.media.bad_urls import BAD_URLS

# This machine, in every way to write it; the canary listens on the port.
HERE = (
    *("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.255.255.254"),
    *("2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1", "0177.0.0.1", "017700000001", "0177.0x0.1", "0", "0.0.0.0"),
    *("127.0.0.0x1", "127.000.000.001", "127.0.0.%31", "127。0。0。1", "①②⑦.⓪.⓪.①"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]"),
    *("user@127.0.0.1", "user:secret@127.0.0.1", "example.com@127.0.0.1", "example.com#@127.0.0.1"),
    *("example.com%23@127.0.0.1", "example.com\\@127.0.0.1", "127.0.0.1\r\nX-Injected: 1\r\n"),
)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    with Canary(tmp_path_factory.mktemp("canary"), b"what must not be read") as canary:
        yield canary


def asked(client: httpx.Client, url: str) -> list[httpx.Response]:
    """The three ways to name an address."""
    source = {"pipeline": "sample", "source_url": "https://media.example/a.wav"}
    form = {"pipeline": "sample", "callback_url": url}
    return [
        client.post("/v1/jobs", json={**source, "source_url": url}),
        client.post("/v1/jobs", json={**source, "callback_url": url}),
        client.post("/v1/jobs", data=form, files={"file": ("a.wav", b"sound", "audio/wav")}),
    ]


def refused(api: Api, client: httpx.Client, canary: Canary, url: str) -> None:
    files, before = api.files(), newest(client)
    answers = asked(client, url)
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(422, "url_forbidden")] * 3
    assert canary.touched() == []
    assert set(api.files()) <= set(files), "a file was left of it"
    assert newest(client) == before, "a job was made of it"


def newest(client: httpx.Client) -> list[str]:
    """The id of the latest job, if there is one; what becomes of that one meanwhile is its own affair."""
    return [job["id"] for job in client.get("/v1/jobs?limit=1").json()["jobs"]]


@pytest.mark.parametrize("url", [url for url in BAD_URLS if url])
def test_an_address_that_is_not_public_is_refused(api: Api, client: httpx.Client, canary: Canary, url: str) -> None:
    refused(api, client, canary, url)


@pytest.mark.parametrize("name", HERE)
def test_this_machine_is_not_knocked_at(api: Api, client: httpx.Client, canary: Canary, name: str) -> None:
    refused(api, client, canary, f"http://{name}:{canary.port}/a.wav")


@pytest.mark.parametrize("how", ["file://{0}", "file:{0}", "{0}", "subfile,,start,0,end,4,,:{0}", "concat:{0}|{0}"])
def test_a_file_of_this_machine_is_not_read(api: Api, client: httpx.Client, canary: Canary, how: str) -> None:
    refused(api, client, canary, how.format(canary.file))


@pytest.mark.parametrize("scheme", ["ftp", "gopher", "tcp", "udp", "rtp", "rtsp", "rtmp", "redis", "ws", "smb", "dict"])
def test_another_scheme_is_none(api: Api, client: httpx.Client, canary: Canary, scheme: str) -> None:
    refused(api, client, canary, f"{scheme}://127.0.0.1:{canary.port}/a.wav")
