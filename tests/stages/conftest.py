"""A real host and real workers (processes of their own), which run the pipelines of `tricks`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from typing import Any

import psutil
import pytest

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.host import Host
from callsheet.actors.keys import new_job_id
from callsheet.actors.stores.folder import FolderStore
from callsheet.config.settings import Settings
from callsheet.jobs.events import Event, decode_event
from callsheet.jobs.job import TERMINAL, InputRef, Job
from callsheet.jobs.messages import Submit
from tests.house.running import Running
from tests.servers import RedisServer
from tests.stages import tricks
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _tricks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage children import the pipelines by name: PYTHONPATH is one of the few variables that they are given."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class Service:
    """A host in this process, workers beside it, and what a test asks of them."""

    def __init__(self, settings: Settings, marks: Path) -> None:
        self.settings = settings
        self.marks = marks
        marks.mkdir(exist_ok=True)
        self.store = FolderStore(settings.data / "store")
        self.jobs = BlockingJobs(settings.journal, partitions=settings.partitions, reply_timeout=60.0)
        self.workers: list[Running] = []
        self.host = Host(settings)
        self.host.start()

    def worker(self, *queues: str, **changes: object) -> Running:
        """Start a worker process and wait until it is ready."""
        started = self.start_worker(*queues, **changes)
        started.until("ready", 60.0)
        return started

    def start_worker(self, *queues: str, **changes: object) -> Running:
        """Start a worker process."""
        plain = {
            "data": self.settings.data,
            "redis_url": self.settings.journal,
            "broker_url": self.settings.broker,
            "pipelines": ",".join(tricks.REFERENCES),
            "partitions": self.settings.partitions,
            "heartbeat_seconds": self.settings.heartbeat_seconds,
            "worker_lost_after_seconds": self.settings.worker_lost_after_seconds,
            "stage_memory_bytes": int(self.settings.stage_memory_bytes),
            "log_format": "json",
            **changes,
        }
        command = [sys.executable, "-P", "-m", "callsheet", "worker"]
        command += [part for queue in queues or ("cpu",) for part in ("--queue", queue)]
        output = self.marks / f"worker-{len(self.workers)}.log"
        environment = {f"CALLSHEET_{name.upper()}": str(value) for name, value in plain.items()}
        started = Running(command, output, **environment)
        self.workers.append(started)
        return started

    def submit(
        self,
        trick: str = "nothing",
        pipeline: str = "one",
        sound: bytes = b"some sound",
        tenant: str = "me",
        **params: Any,
    ) -> str:
        """Submit a job whose stage does a trick."""
        job = new_job_id()
        upload = self.store.new_upload()
        upload.write(sound)
        self.store.accept_input(job, upload)
        found: Any = getattr(tricks, pipeline)
        given = {"trick": trick, "marks": str(self.marks), **params}
        ref = InputRef("sound.wav", upload.bytes, upload.sha256, "audio/wav")
        outcome = self.jobs.ask(job, Submit(job, tenant, pipeline, given, found.specs, ref))
        assert outcome.ok, outcome
        return job

    def ended(self, job: str, seconds: float = 60.0) -> Job:
        """The job, once it has ended."""

        def done() -> Job | None:
            found = self.jobs.job(job)
            return found if found and found.status in TERMINAL else None

        return eventually(done, seconds)

    def run(self, trick: str = "nothing", pipeline: str = "one", **params: Any) -> Job:
        """Submit a job and wait for its end."""
        return self.ended(self.submit(trick, pipeline, **params))

    def events(self, job: str, kind: str | None = None) -> list[Event]:
        """The events of a job (of one type)."""
        found = [decode_event(entry.raw) for entry in self.jobs.events(job, limit=5000)]
        return [event for event in found if kind in (None, event.type)]

    def marked(self, name: str, seconds: float = 60.0) -> str:
        """What a stage has marked, once it has."""
        eventually((self.marks / name).exists, seconds)
        return (self.marks / name).read_text()

    def mark(self, name: str) -> None:
        """Tell a stage something."""
        (self.marks / name).touch()

    def in_work(self) -> list[str]:
        """What lies in the work folders of all runs."""
        return glob("*/*/*", root_dir=self.settings.data / "work", include_hidden=True)  # noqa: PTH207  Path's trips over what goes

    def published(self, job: str) -> list[str]:
        """The stage folders in the store of a job."""
        folder = self.settings.data / "store" / "jobs" / job
        return sorted(p.name for p in folder.iterdir() if p.name != "input") if folder.exists() else []

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.clean_up()
        self.host.stop()
        self.jobs.close()


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, broker_url: str) -> Settings:
    """Few partitions, which are soon taken, and workers that are missed after no pause of a busy machine."""
    return quick_settings(tmp_path, redis_url, broker_url)


def quick_settings(folder: Path, redis_url: str, broker_url: str) -> Settings:
    """See `settings`."""
    return Settings(
        data=folder / "data",
        redis_url=redis_url,
        broker_url=broker_url,
        partitions=2,
        lease_seconds=2.0,
        heartbeat_seconds=0.5,
        worker_lost_after_seconds=15.0,
        stage_memory_bytes=512 << 20,
        pipelines=tricks.REFERENCES,
    )


@pytest.fixture
def service(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A host of the test's own, without workers."""
    made = Service(settings, tmp_path / "marks")
    yield made
    made.close()


@pytest.fixture
def watchful(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """The same, where a worker is soon missed: a stage may be given to another one though its worker lives."""
    made = Service(settings.model_copy(update={"worker_lost_after_seconds": 2.0}), tmp_path / "marks")
    yield made
    made.close()


@contextlib.contextmanager
def service_of_a_file(folder: Path, **changes: Any) -> Iterator[Service]:
    """A host without workers, on servers of its own, for all tests of a file."""
    with (
        pytest.MonkeyPatch.context() as patch,
        RedisServer(folder / "journal") as journal,
        RedisServer(folder / "broker", "broker") as broker,
    ):
        patch.setenv("PYTHONPATH", str(ROOT))
        settings = quick_settings(folder, journal.url, broker.url)
        made = Service(settings.model_copy(update=changes), folder / "marks")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def _shared(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_of_a_file(tmp_path_factory.mktemp("shared")) as made:
        made.worker("cpu", "io", cpu_concurrency=1, io_concurrency=2)
        yield made


@pytest.fixture
def shared(_shared: Service, tmp_path: Path) -> Service:
    """A host and a worker (one cpu slot, two io slots) that the tests of a file share: starting one takes seconds."""
    _shared.marks = tmp_path / "marks"
    _shared.marks.mkdir(exist_ok=True)
    return _shared


@pytest.fixture
def fragile(
    make_redis: Callable[..., RedisServer], tmp_path: Path
) -> Iterator[tuple[Service, RedisServer, RedisServer]]:
    """A service whose journal and broker may be killed."""
    journal, broker = make_redis("journal"), make_redis("broker")
    made = Service(quick_settings(tmp_path, journal.url, broker.url), tmp_path / "marks")
    yield made, journal, broker
    made.close()


def alive(*pids: int) -> list[int]:
    """Which of these processes run."""
    living = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            living += [pid] if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else []
    return living


def group_of(leader: int) -> list[int]:
    """The living members of a process group."""
    members = []
    for process in psutil.process_iter():
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[2]) == leader and stat[0] not in "ZX":
            members.append(process.pid)
    return members


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder of a run, with a file to publish and one that nobody names."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "words.txt").write_text("hello")
    (folder / "scratch.tmp").write_text("not for publication")
    return folder
