"""The whole service, started once as a user starts it, and inputs of every kind made from the two recordings."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from glob import glob  # Path's trips over a folder that goes while it looks
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import psutil
import pytest

from tests.house.running import UNKEPT, Running, free_port
from tests.waiting import eventually

FIXTURES = Path(__file__).parent.parent / "fixtures"
ROOT = Path(__file__).parents[2]
# As in the README (and with shorts), where it stands for a shell that is in the checkout.
OWN_PIPELINE = {
    "CALLSHEET_PIPELINES": "callsheet.pipelines.transcribe:pipeline,callsheet.pipelines.shorts:pipeline,"
    "word_count:word_count",
    "PYTHONPATH": str(ROOT / "examples"),
}
TERMINAL = {"completed", "failed", "cancelled"}


class Service:
    """`callsheet up`, its API, and the folder of its data."""

    def __init__(self, up: Running, api: httpx.Client, data: Path) -> None:
        self.up, self.api, self.data = up, api, data

    def submit(self, recording: Path, **params: Any) -> httpx.Response:
        """Send a recording to the pipeline `transcribe`."""
        fields = {"pipeline": "transcribe", "params": httpx.Response(200, json=params).text}
        with recording.open("rb") as file:
            return self.api.post("/v1/jobs", data=fields, files={"file": (recording.name, file)})

    def job(self, id_: str) -> dict[str, Any]:
        return dict(self.api.get(f"/v1/jobs/{id_}").raise_for_status().json())

    def until(self, id_: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """The job once it has one of these statuses (default: once it has ended)."""
        eventually(lambda: self.job(id_)["status"] in (statuses or TERMINAL), seconds)
        return self.job(id_)

    def running(self, id_: str, stage: str) -> None:
        """Wait until this stage of the job runs."""

        def runs() -> bool:
            job = self.job(id_)
            assert job["status"] not in TERMINAL, f"{job['status']} before {stage} was seen running"
            return any(s["name"] == stage and s["status"] == "running" for s in job["stages"])

        eventually(runs, 100)

    def events(self, id_: str) -> list[dict[str, Any]]:
        """All events of a job, page by page."""
        events: list[dict[str, Any]] = []
        while page := self.api.get(f"/v1/jobs/{id_}/events", params={"after": len(events)}).json()["events"]:
            events += page
        return events

    def artifact(self, id_: str, name: str) -> bytes:
        return self.api.get(f"/v1/jobs/{id_}/artifacts/{name}").raise_for_status().content

    def processes(self, name: str) -> set[int]:
        """The living processes of this service with this in their command: `child_main` (a stage's), `ffmpeg`."""
        return {pid for pid in psutil.pids() if name in _read(pid, "cmdline") and self.up.tag in _group_environ(pid)}

    def leftovers(self) -> list[str]:
        """Files of uploads and of work that are still there, though nothing runs."""
        places = ("work/*/*/*", "store/incoming/*")
        return [name for place in places for name in glob(place, root_dir=self.data, include_hidden=True)]  # noqa: PTH207


def _read(pid: int, what: str) -> str:
    """A file of /proc; empty for a process that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/{what}").read_text(errors="replace")
    except OSError:
        return ""


def _group_environ(pid: int) -> str:
    """The environment of the leader of its group: a stage's child leads, ffmpeg in it is given next to nothing."""
    try:
        return _read(os.getpgid(pid), "environ")
    except ProcessLookupError:
        return ""


@contextlib.contextmanager
def running_service(folder: Path, **env: str) -> Iterator[Service]:
    """The service, on a data folder of its own."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("callsheet")), "up"]
    env = {"CALLSHEET_PORT": str(port), "CALLSHEET_DATA": str(folder / "data"), **env}
    up = Running(command, folder / "output", **env)
    try:
        up.until("Callsheet is ready", 60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=UNKEPT) as api:
            yield Service(up, api, folder / "data")
    finally:
        up.clean_up()


@pytest.fixture(scope="module")
def service(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests of a file."""
    with running_service(tmp_path_factory.mktemp("service"), **OWN_PIPELINE) as service:
        yield service


def ffmpeg(*arguments: str) -> None:
    """Make a test file."""
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments], check=True)


@pytest.fixture(scope="session")
def austen() -> Path:
    """Twenty-five seconds of a reading (WAV)."""
    return FIXTURES / "speech_librivox_austen" / "austen_joined.wav"


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory, jfk: Path) -> Path:
    """A video in which English is spoken."""
    path = tmp_path_factory.mktemp("video") / "talk.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=10"]
    ffmpeg(*picture, "-i", str(jfk), "-t", "11", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", str(path))
    return path


@pytest.fixture(scope="session")
def hum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Almost four hours of a hum: quick to make, and ffmpeg is busy with it for a quarter of a minute."""
    path = tmp_path_factory.mktemp("hours") / "hum.mka"
    piece = path.with_name("piece.m4a")
    ffmpeg("-f", "lavfi", "-i", "sine=frequency=50:duration=100", "-ac", "2", "-c:a", "aac", "-b:a", "32k", str(piece))
    ffmpeg("-stream_loop", "139", "-i", str(piece), "-c", "copy", str(path))
    return path


@pytest.fixture(scope="session")
def long_talk(tmp_path_factory: pytest.TempPathFactory, austen: Path) -> Path:
    """Ten minutes of speech without a pause to speak of."""
    path = tmp_path_factory.mktemp("long") / "long.flac"
    ffmpeg("-stream_loop", "24", "-i", str(austen), "-t", "600", str(path))
    return path
