"""A real service for the tests of the surface: Redis, a host and gunicorn in processes of their own.

The stages of the pipeline `sample` are played by the test, which sends what a worker would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.store import stage_folder
from callsheet.cli import app
from callsheet.config.process import dying_with_us
from callsheet.config.settings import environment
from callsheet.jobs.job import FileRef
from callsheet.jobs.messages import Claim, Failed, Progress, Succeeded
from callsheet.pipelines.declare import OutputFile
from tests.house.running import free_port
from tests.small_disk import files_below
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SMALL = {  # one process of each role, for `sample`
    "pipelines": "tests.http.sample:pipeline",
    "cpu_concurrency": "1",
    "io_concurrency": "0",
    "api_workers": "1",
}


class Role:
    """One process of the service."""

    def __init__(self, role: str, log: Path, **settings: str) -> None:
        env = {**environment(**settings), "PYTHONPATH": str(ROOT)}
        self.log = log
        with log.open("ab") as out:
            command = dying_with_us([sys.executable, "-m", "callsheet", role])
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=ROOT, start_new_session=True)

    def stop(self, seconds: float = 60.0) -> None:
        """Ask it to stop, and wait until it has; an error if it has not by then."""
        self.process.terminate()
        self.process.wait(seconds)

    def kill(self) -> None:
        """End it and its children, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Api(Role):
    """The API on a port of its own."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = Path(settings["data"])
        super().__init__("api", log, port=str(self.port), **settings)

    def wait(self, path: str = "/readyz") -> None:
        """Until it answers 200."""
        eventually(lambda: self.process.poll() is None and self._answers(path), 60)

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path).status_code == 200
        except httpx.HTTPError:
            return False

    def files(self) -> list[str]:
        """What lies in its store, uploads in the making included."""
        return sorted(files_below(self.data / "store"))

    def submit(self, content: bytes = b"sound", **more: Any) -> httpx.Response:
        return submit(self.url, content, **more)


@contextmanager
def served(log: Path, **settings: str) -> Iterator[Api]:
    """An API while the block runs, from its first answer on."""
    role = Api(log, **settings)
    try:
        role.wait()
        yield role
    finally:
        role.kill()


@contextmanager
def served_whole(folder: Path, **settings: str) -> Iterator[Api]:
    """The same with a host and a worker, which runs the stages; their logs lie in the folder, too."""
    shared = {"data": str(folder / "data"), **settings}
    roles = [Role(role, folder / f"{role}.log", **shared) for role in ("host", "worker")]
    try:
        with served(folder / "api.log", **shared) as api:
            eventually(lambda: "ready" in roles[1].said(), 60)
            yield api
    finally:
        for role in roles:
            role.kill()


def submit(
    url: str,
    content: bytes = b"sound",
    *,
    name: str = "a.wav",
    pipeline: str = "sample",
    params: str | None = None,
    key: str | None = None,
) -> httpx.Response:
    """POST a submission."""
    data = {"pipeline": pipeline} | ({"params": params} if params is not None else {})
    headers = {"Idempotency-Key": key} if key else {}
    return httpx.post(
        f"{url}/v1/jobs", data=data, files={"file": (name, content, "audio/wav")}, headers=headers, timeout=30
    )


class Stages:
    """Plays the worker: claims what was dispatched, reports, publishes."""

    def __init__(self, redis_url: str, data: Path) -> None:
        self.jobs = BlockingJobs(redis_url, reply_timeout=60)
        self._store = FolderStore(data / "store")
        self._work = data

    def close(self) -> None:
        self.jobs.close()

    def start(self, job: str, stage: str) -> int:
        """Claim the stage once it is dispatched; the token."""

        def dispatched() -> int:
            _, state = self.jobs.stage(job, stage)
            return state.token if state and state.status == "dispatched" else 0

        token = eventually(dispatched)
        assert self.jobs.ask(job, Claim(stage, token, "test")).ok
        return token

    def progress(self, job: str, stage: str, token: int, n: int, fraction: float) -> None:
        self.jobs.tell(job, Progress(stage, token, n, fraction, f"at {n}"))

    def succeed(self, job: str, stage: str, token: int, **files: bytes) -> None:
        outcome = self.jobs.ask(job, Succeeded(stage, token, outputs=self._publish(job, stage, token, files)))
        assert outcome.ok, outcome

    def fail(self, job: str, stage: str, token: int) -> None:
        assert self.jobs.ask(job, Failed(stage, token, "broken", "it broke")).ok

    def complete(self, job: str, steps: int = 0, /, **files: bytes) -> None:
        """Run the whole job: the first stage tells its progress in so many steps, the second publishes the files."""
        token = self.start(job, "one")
        for n in range(1, steps + 1):
            self.progress(job, "one", token, n, n / steps)
        self.succeed(job, "one", token)
        self.succeed(job, "two", self.start(job, "two"), **files)

    def _publish(self, job: str, stage: str, token: int, files: dict[str, bytes]) -> tuple[FileRef, ...]:
        work = self._work / f"work-{job}-{token}"
        work.mkdir()
        for name, content in files.items():
            (work / name).write_bytes(content)
        outputs = [OutputFile(name, media_type(name), artifact=True) for name in files]
        return self._store.publish(job, stage_folder(token, stage), work, outputs)


def media_type(name: str) -> str:
    types = {"txt": "text/plain", "html": "text/html", "json": "application/json", "vtt": "text/vtt"}
    return {**types, "svg": "image/svg+xml", "png": "image/png"}[name.rpartition(".")[2]]


def command(addresses: dict[str, str], *arguments: str, what: str = "keys", fails: bool = False) -> str:
    """What `callsheet keys …` prints, or the line in which it says why not."""
    env = {f"CALLSHEET_{name.upper()}": value for name, value in addresses.items()}
    done = CliRunner().invoke(app, [what, *arguments], env=env)
    assert (done.exit_code != 0) is fails, done.output
    return str(done.exception) if fails else done.stdout.strip()
