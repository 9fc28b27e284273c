"""API, host and worker with a data folder of their own each: they share Redis and a bucket, and nothing else."""

from __future__ import annotations

import io
import socket
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.house.running import Running
from tests.http.service import ROOT, Api, Role
from tests.object_store import ObjectStore
from tests.servers import RedisServer
from tests.stages import tricks
from tests.waiting import eventually

PREFIX = "files/of/this"


class Apart:
    """The roles."""

    def __init__(self, folder: Path, server: ObjectStore, journal: str, broker: str) -> None:
        self.folder, self.server = folder, server
        shared = server.settings(PREFIX, redis_url=journal, broker_url=broker, partitions="2")
        shared |= {"pipelines": ",".join(tricks.REFERENCES), "store_presigned_seconds": "60"}
        self.host = Role("host", folder / "host.log", data=str(folder / "host"), **shared)
        self.api = Api(folder / "api.log", data=str(folder / "api"), **shared)
        self._shared = shared
        self._told = {f"CALLSHEET_{name.upper()}": text for name, text in shared.items()} | {"PYTHONPATH": str(ROOT)}
        self.workers = [self.worker("cpu"), self.worker("io")]
        self.client = httpx.Client(base_url=self.api.url, timeout=20)

    def worker(self, queue: str, **changes: str) -> Running:
        command = [sys.executable, "-P", "-m", "callsheet", "worker", "--queue", queue]
        told = {**self._told, "CALLSHEET_DATA": str(self.folder / "worker"), **changes}
        return Running(command, self.folder / f"worker-{queue}.log", **told)

    def another_api(self, **changes: str) -> Api:
        return Api(self.folder / "other-api.log", data=str(self.folder / "other-api"), **{**self._shared, **changes})

    def close(self) -> None:
        self.client.close()
        for worker in self.workers:
            worker.clean_up()
        for role in (self.api, self.host):
            role.kill()

    def run(self, pipeline: str, **params: Any) -> dict[str, Any]:
        """A job, once it has ended."""
        text = msgspec.json.encode(params).decode()
        answer = self.api.submit(b"some sound", pipeline=pipeline, params=text)
        assert answer.status_code == 202, answer.text
        where = answer.headers["location"]

        def ended() -> dict[str, Any] | None:
            job = dict(self.client.get(where).json())
            return job if job["status"] in ("completed", "failed") else None

        return eventually(ended) or {}

    def files(self) -> list[str]:
        """What lies in the data folders, but for locks."""
        found = (p for role in ("api", "host", "worker") for p in (self.folder / role).rglob("*"))
        return [str(p) for p in found if p.is_file() and p.suffix != ".lock"]


@pytest.fixture(scope="module")
def apart(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    server = ObjectStore(folder / "s3.log")
    with RedisServer(folder / "journal") as journal, RedisServer(folder / "broker", "broker") as broker:
        roles = Apart(folder, server, journal.url, broker.url)
        try:
            server.wait()
            eventually(lambda: roles.api._answers("/readyz"), 60)
            yield roles
        finally:
            roles.close()
            server.stop()


def test_a_job_runs_and_its_artifacts_are_had_from_the_api_and_from_the_store(apart: Apart, tmp_path: Path) -> None:
    job = apart.run("one", trick="write", marks=str(tmp_path))
    assert (job["status"], job["error"]) == ("completed", None)
    assert job["result"]["input"] == "some sound", "the stage has read the input"
    (artifact,) = job["artifacts"]

    there = apart.client.get(artifact["url"])
    assert (there.status_code, there.content) == (307, b"")
    assert (there.headers["cache-control"], there.headers.get("etag")) == ("no-store", None)
    assert there.headers["location"].startswith(f"{apart.server.url}/")
    direct = httpx.get(there.headers["location"], headers={"Range": "bytes=1-2"})
    assert (direct.status_code, direct.content) == (206, b"el")

    shown = apart.client.get(artifact["url"], params={"inline": "1"})
    assert (shown.status_code, shown.content, shown.headers["content-disposition"][:6]) == (200, b"hello", "inline")
    assert direct.headers["content-disposition"] == shown.headers["content-disposition"].replace("inline", "attachment")
    known = apart.client.get(artifact["url"], headers={"If-None-Match": f'"{artifact["sha256"]}"'})
    assert known.status_code == 304
    packed = zipfile.ZipFile(io.BytesIO(apart.client.get(f"/v1/jobs/{job['id']}/artifacts.zip").content))
    assert {name: packed.read(name) for name in packed.namelist()} == {"words.txt": b"hello"}

    assert apart.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    eventually(lambda: not [key for key in apart.server.keys(PREFIX) if job["id"] in key])


def test_what_may_not_be_shown_comes_from_the_api_too_if_it_is_asked_to(apart: Apart) -> None:
    (artifact,) = apart.run("one", trick="page")["artifacts"]
    assert apart.client.get(artifact["url"]).status_code == 307
    sent = apart.client.get(artifact["url"], params={"inline": "1"})
    assert (sent.status_code, sent.content) == (200, b"<script>")
    assert sent.headers["content-disposition"].startswith("attachment")


def test_stages_hand_files_on_through_the_store_and_leave_nothing_on_their_machine(apart: Apart) -> None:
    job = apart.run("graph", count=3)
    assert (job["status"], job["error"]) == ("completed", None)
    assert job["result"]["texts"] == {"clip:0": "0 first", "clip:2": "2 first"}
    assert len([key for key in apart.server.keys(PREFIX) if job["id"] in key]) == 3, "the input, and two clips"
    assert apart.files() == []


def test_a_bucket_that_is_missing_fails_the_stage_for_now_and_the_log_says_what_to_do(apart: Apart) -> None:
    apart.workers.pop().clean_up()
    apart.workers.append(apart.worker("io", CALLSHEET_STORE_URL="s3://no-such-bucket"))
    job = apart.run("graph", count=1)
    assert {name: job["error"][name] for name in ("code", "stage", "retryable")} == {
        "code": "store_misconfigured",
        "stage": "clip:0",
        "retryable": True,
    }
    assert "no-such-bucket" not in str(job)
    assert "the bucket 'no-such-bucket' does not exist: create it" in apart.workers[-1].text


def test_without_a_bucket_a_submission_is_refused_for_now(apart: Apart) -> None:
    api = apart.another_api(store_url="s3://no-such-bucket")
    try:
        eventually(lambda: api._answers("/healthz"), 60)
        answer = api.submit(b"some sound", pipeline="one")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_misconfigured")
        assert int(answer.headers["retry-after"]) > 0
        assert "no-such-bucket" not in answer.text
        unready = httpx.get(f"{api.url}/readyz")
        assert (unready.status_code, unready.json()["code"]) == (503, "not_ready")
        assert "no-such-bucket" not in unready.text
        assert "does not exist: create it" in api.said()
        assert list((api.data / "store" / "incoming").iterdir()) == [], "the upload is not kept"
    finally:
        api.kill()


def test_a_bucket_that_says_nothing_makes_it_unready_in_time_and_is_asked_once(apart: Apart) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = apart.another_api(store_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", api_workers="1")
        try:
            eventually(lambda: api._answers("/healthz"), 60)
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: httpx.get(f"{api.url}/readyz", timeout=60), range(4)))
            assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "not_ready")] * 4
            silent.settimeout(5)
            asked, _ = silent.accept()
            silent.setblocking(False)
            with pytest.raises(BlockingIOError):
                silent.accept()
            asked.close()
        finally:
            api.kill()
