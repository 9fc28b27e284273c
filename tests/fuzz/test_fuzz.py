"""Whatever is sent, no answer is a server error, and each is one that the document has: schemathesis on a real service.

Short in every run; with `make fuzz` as long as `FUZZ_SECONDS` says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from callsheet.actors.tenants.keyring import KeyStore
from tests.http.service import ROOT, Api, served_whole
from tests.servers import RedisServer

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLE = "examples.word_count:word_count"
SEED = "1"


@pytest.fixture(scope="module")
def journal(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("journal")) as server:
        yield server


@pytest.fixture(scope="module")
def key(journal: RedisServer) -> str:
    """The header of somebody who may do everything."""
    with redis.Redis.from_url(journal.url) as client:
        return f"Bearer {KeyStore(client).create('fuzz', ('read', 'write', 'admin'))[1]}"


@pytest.fixture(scope="module")
def service(journal: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """All roles, with a pipeline that is done at once."""
    folder = tmp_path_factory.mktemp("fuzz")
    with RedisServer(folder / "broker", "broker") as broker:
        settings = {"redis_url": journal.url, "broker_url": broker.url, "pipelines": EXAMPLE}
        settings |= {"log_format": "json", "auth": "keys", "rate_per_second": "0"}
        with served_whole(folder, **settings) as api:
            yield api
    for role in ("host", "worker", "api"):
        assert "Traceback" not in (folder / f"{role}.log").read_text(errors="replace")


@pytest.mark.soak  # in every run too, where it is a short one
@pytest.mark.timeout(7200)
def test_no_request_that_can_be_made_up_breaks_the_contract(
    service: Api, key: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    long = request.config.getoption("markexpr") == "soak"
    form: dict[str, Any] = {"data": {"pipeline": "word_count"}, "files": {"file": ("a.txt", b"a word\n")}}
    assert httpx.post(f"{service.url}/v1/jobs", headers={"Authorization": key}, **form).status_code == 202
    if long:
        bounds = ["--max-examples", "1000", "--max-time", os.environ.get("FUZZ_SECONDS", "600")]
    else:
        bounds = ["--max-examples", "5", "--phases", "examples,coverage,fuzzing", "--seed", SEED]
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"]
    more = ["--header", f"Authorization:{key}", "--generation-database", "none", "--no-color", "--continue-on-failure"]
    more += ["--request-timeout", "60"]  # it gives up after ten seconds, and takes that for a failure
    command += [f"{service.url}/openapi.json", *bounds, *more]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr
