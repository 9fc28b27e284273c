"""`callsheet doctor` finds nothing to say about a good set-up, and says of a bad one what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callsheet.actors.committer import connect
from callsheet.actors.telemetry.checkup import Finding, look_at_servers
from callsheet.config.settings import Settings, environment
from callsheet.doctor import examine
from tests.house.running import free_port
from tests.http.service import ROOT, SMALL, served_whole
from tests.servers import RedisServer
from tests.waiting import eventually


def doctor(*arguments: str, **settings: str) -> tuple[int, str]:
    """Its exit code, and what it says."""
    command = [sys.executable, "-m", "callsheet", "doctor", *arguments]
    env = {**environment(**settings), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def problems(findings: list[Finding]) -> dict[str, str]:
    assert all(finding.todo for finding in findings if finding.level != "ok")
    return {finding.check: finding.what for finding in findings if finding.level == "problem"}


@pytest.fixture
def service(redis_url: str, broker_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a whole service that runs."""
    shared = {**SMALL, "redis_url": redis_url, "broker_url": broker_url, "data": str(tmp_path / "data")}
    with served_whole(tmp_path, **shared) as api:
        yield {**shared, "port": str(api.port)}


def test_a_good_service_has_no_problem_and_the_exit_code_is_0(service: dict[str, str]) -> None:
    servers, files = {"journal", "broker", "clock", "keys"}, {"data", "ffmpeg", "store"}

    def all_well() -> bool:
        code, said = doctor("--json", **service)
        found: dict[str, Any] = json.loads(said)
        assert code == (0 if found["ok"] else 1)
        well = {f["check"] for f in found["findings"] if f["level"] == "ok"}
        return found["ok"] and well - {"model"} == {*servers, *files, "port", "hosts", "pipelines", "workers"}

    eventually(all_well, 60)  # a worker that has just begun has not shown itself yet


def test_a_journal_that_may_lose_jobs_is_a_problem_and_the_exit_code_is_1(
    make_redis: Callable[..., RedisServer], broker_url: str, tmp_path: Path
) -> None:
    journal = make_redis("journal", "--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru")
    port = str(free_port())
    code, said = doctor(redis_url=journal.url, broker_url=broker_url, data=str(tmp_path), port=port)
    assert code == 1
    assert "PROBLEM journal   appendfsync is everysec: jobs that were accepted may be lost" in said
    assert "-> redis-cli CONFIG SET appendfsync always" in said
    assert "PROBLEM journal   maxmemory-policy is allkeys-lru: it may forget jobs" in said
    assert "PROBLEM hosts     none has ever run on this journal" in said
    assert "PROBLEM workers   none takes the queue cpu" in said


def test_a_user_that_may_not_publish_is_a_problem(settings: Settings, make_redis: Callable[..., RedisServer]) -> None:
    journal = make_redis("journal")
    with journal.client() as client:
        client.execute_command("ACL", "SETUSER", "cs", "on", ">word", "~*", "+@all", "resetchannels")
        url = journal.url.replace("unix://", "unix://cs:word@")
        assert "may not publish" in problems(list(look_at_servers(settings, url, settings.broker)))["journal"]
        client.execute_command("ACL", "SETUSER", "cs", "&cs:*")
        assert "journal" not in problems(list(look_at_servers(settings, url, settings.broker)))


def test_one_server_for_both_is_a_warning(settings: Settings) -> None:
    found = list(look_at_servers(settings, settings.journal, settings.journal))
    assert [f.what for f in found if f.level == "warning"] == ["is the same server as the journal's"]


def test_a_broker_that_may_forget_stages_is_a_problem(
    settings: Settings, make_redis: Callable[..., RedisServer]
) -> None:
    broker = make_redis("broker", "--maxmemory-policy", "allkeys-lru")
    found = list(look_at_servers(settings, settings.journal, broker.url))
    assert problems(found)["broker"] == "maxmemory-policy is allkeys-lru: stages it forgets never run"


def test_a_server_that_is_away_is_a_problem(settings: Settings) -> None:
    found = list(look_at_servers(settings, "redis://127.0.0.1:1/0", settings.broker))
    assert problems(found).keys() == {"journal"}


def test_a_service_for_the_network_without_a_key_is_a_problem(settings: Settings) -> None:
    found = list(look_at_servers(settings.model_copy(update={"auth": "keys"}), settings.journal, settings.broker))
    assert problems(found)["keys"] == "every request needs one, and there is none"


def test_a_clock_that_is_wrong_is_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(settings.journal)
    seconds, _ = client.time()
    monkeypatch.setattr(time, "time", lambda: seconds - 3600.0)
    found = list(look_at_servers(settings, settings.journal, settings.broker))
    assert problems(found)["clock"].startswith("this machine is -36")
    client.close()


def test_what_is_wrong_with_this_machine_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        update = {
            "data": tmp_path / "file" / "data",
            "port": somebody.getsockname()[1],
            "model": "no-such-model",
            "pipelines": ("no.such:pipeline",),
        }
        somebody.listen()
        found = list(examine(settings.model_copy(update=update)))
    assert problems(found).keys() >= {"data", "port", "model", "pipelines", "store", "hosts"}


def test_pipelines_are_looked_at_before_anything_runs(settings: Settings) -> None:
    update = {"redis_url": "redis://127.0.0.1:1/0", "pipelines": ("no.such:pipeline",)}
    assert problems(list(examine(settings.model_copy(update=update)))).keys() >= {"journal", "pipelines"}


def test_settings_that_cannot_work_are_one_problem() -> None:
    code, said = doctor("--json", bind="0.0.0.0", auth="off")
    (finding,) = json.loads(said)["findings"]
    assert (code, finding["check"], finding["level"]) == (1, "settings", "problem")
    assert "opens the service to the network" in finding["what"]
    assert os.linesep not in finding["what"]
