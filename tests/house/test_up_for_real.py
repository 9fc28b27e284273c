"""The whole service, started as a user starts it, transcribes real speech, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.house.running import UNKEPT, Running, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(600)
Start = Callable[[], tuple[Running, httpx.Client]]
TERMINAL = {"completed", "failed", "cancelled"}
BEGUN = {"running", *TERMINAL}  # it runs for seconds, and yet a machine that stalls may look too late
STOPPED = 10.0


@pytest.fixture
def start(redis_binary: Path, tmp_path: Path) -> Iterator[Start]:
    """`callsheet up` on one data folder, which it may be started on again: it, and a client of its API."""
    command = [str(Path(sys.executable).with_name("callsheet")), "up"]
    everything: list[Running] = []
    clients: list[httpx.Client] = []

    def start() -> tuple[Running, httpx.Client]:
        port, output = free_port(), tmp_path / f"output-{len(everything)}"
        # Nothing is used again here: the same recording is to be transcribed each time.
        given = {"CALLSHEET_PORT": str(port), "CALLSHEET_DATA": str(tmp_path / "data"), "CALLSHEET_REUSE": "off"}
        up = Running(command, output, **given)
        everything.append(up)
        up.until(f"Callsheet is ready: http://127.0.0.1:{port}\n", 60)
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=UNKEPT))
        return up, clients[-1]

    yield start
    for client in clients:
        client.close()
    for up in everything:
        up.clean_up()


def submit(api: httpx.Client, recording: Path) -> str:
    """Submit a recording: the job's id."""
    with recording.open("rb") as file:
        answer = api.post("/v1/jobs", files={"file": (recording.name, file)}, data={"pipeline": "transcribe"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def job(api: httpx.Client, id_: str) -> dict[str, Any]:
    return dict(api.get(f"/v1/jobs/{id_}").raise_for_status().json())


def ended(api: httpx.Client, id_: str) -> dict[str, Any]:
    """The job once it has ended."""
    eventually(lambda: job(api, id_)["status"] in TERMINAL, 120)
    return job(api, id_)


def becomes(api: httpx.Client, id_: str, statuses: Collection[str]) -> None:
    """Until the job is in one of these."""
    eventually(lambda: status(api, id_) in statuses, 90)


def as_it_says(up: Running, folder: Path) -> str:
    """Type what it says under `Try it`, in another folder: the job's id."""
    (command,) = re.findall(r"^Try it:  (curl .*)$", up.text, re.MULTILINE)
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=100, check=True)
    return str(json.loads(done.stdout)["id"])


def test_it_transcribes_and_ctrl_c_stops_everything_within_10_seconds(start: Start, tmp_path: Path) -> None:
    up, api = start()
    assert ended(api, as_it_says(up, tmp_path))["status"] == "completed"
    up.until("host     job completed job=")
    up.signal(signal.SIGINT)
    assert up.ends_within(STOPPED) == 0
    up.is_gone()
    assert "Traceback" not in up.text


def test_it_stops_in_time_while_a_stage_is_busy_and_a_watcher_is_connected(start: Start, jfk: Path) -> None:
    up, api = start()
    id_ = submit(api, jfk)
    with api.stream("GET", f"/v1/jobs/{id_}/events", headers={"Accept": "text/event-stream"}) as feed:
        next(feed.iter_lines())
        up.signal(signal.SIGTERM)
        assert up.ends_within(STOPPED) == 0
    up.is_gone()


def test_after_kill_9_of_everything_it_goes_on_where_it_stopped(start: Start, jfk: Path) -> None:
    up, api = start()
    id_ = submit(api, jfk)
    eventually(lambda: job(api, id_)["status"] in BEGUN)
    up.kill_all()
    up.ends()
    again, api = start()
    assert ended(api, id_)["status"] == "completed"
    up.is_gone()
    again.signal(signal.SIGTERM)
    assert again.ends_within(STOPPED) == 0


def test_whichever_role_is_killed_comes_back_and_the_job_completes(start: Start, jfk: Path) -> None:
    up, api = start()
    for role in ("host", "worker-cpu", "api", "redis-journal", "redis-broker"):
        id_ = submit(api, jfk)
        becomes(api, id_, BEGUN)
        os.kill(up.pid_of(role), signal.SIGKILL)
        up.until(f"starting again name={role}")
        becomes(api, id_, TERMINAL)
        assert (role, status(api, id_)) == (role, "completed")
        eventually(lambda: api.get("/readyz").is_success)


def status(api: httpx.Client, id_: str) -> str:
    """The job's status; "away" while the service is (503, or no connection)."""
    try:
        return str(job(api, id_)["status"])
    except httpx.HTTPError:
        return "away"
