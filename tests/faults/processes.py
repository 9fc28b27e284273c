"""Host processes that are killed, paused and restarted, and somebody who plays the workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import dramatiq

from callsheet.actors import broker as work
from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.host import run_host
from callsheet.config.logging import configure_logging
from callsheet.config.process import die_with_parent
from callsheet.config.settings import environment, load_settings
from callsheet.jobs import messages as m
from tests.waiting import eventually

# Hosts are forked from a process that has imported all they need: starting ten of them costs little.
_nursery = multiprocessing.get_context("forkserver")
_nursery.set_forkserver_preload(["tests.faults.processes"])


def _run(env: dict[str, str], log: Path) -> None:
    """What `callsheet host` does."""
    die_with_parent()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(env)
    settings = load_settings()
    configure_logging(settings, "host")
    run_host(settings)


class HostProcess:
    """`callsheet host`, in a process of its own."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        broker_url: str,
        *,
        failpoints: str = "",
        lease: float = 1.0,
        capacity: int = 4096,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"host-{time.monotonic_ns()}.log"
        self.log.touch()
        env = environment(
            redis_url=redis_url,
            broker_url=broker_url,
            data=str(folder / "data"),
            failpoints=failpoints,
            lease_seconds=str(lease),
            host_pool_threads="16",
            host_capacity=str(capacity),
            log_format="json",
            worker_lost_after_seconds="4",
            cancel_grace_seconds="1",
        )
        self.process = _nursery.Process(target=_run, args=[env, self.log], daemon=True)
        self.process.start()

    def ready(self) -> Self:
        """Once it says that it runs."""
        eventually(lambda: "host ready" in self.said() or not self.alive, why="the host does not start")
        assert self.alive or "host ready" in self.said(), self.said()
        return self

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.join(10)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def terminate(self) -> int | None:
        """Stop it in good order; its exit code."""
        self._signal(signal.SIGTERM)
        self.process.join(30)
        return self.process.exitcode

    def _signal(self, number: signal.Signals) -> None:
        if self.alive and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def end(self) -> None:
        self.resume()
        self.kill()


class Workers:
    """Consume the broker's queues for real, claim, report, and count how often each dispatch was granted.

    What cannot be said is said again, under the same name, until it is: as a worker does.
    """

    def __init__(self, redis_url: str, broker_url: str, threads: int = 4) -> None:
        self.granted: Counter[tuple[str, str, int]] = Counter()
        self.delivered: Counter[tuple[str, str, int]] = Counter()
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._jobs = BlockingJobs(redis_url)
        self._broker = work.make_broker(broker_url)
        work.declare(self._broker, "cpu", self._run)
        self._worker = dramatiq.Worker(self._broker, worker_threads=threads, worker_timeout=50)
        self._worker.start()

    def _run(self, job: str, stage: str, token: int) -> None:
        with self._lock:
            self.delivered[job, stage, token] += 1
        name = f"w-{threading.get_ident()}-{time.monotonic_ns()}"
        outcome = None
        while outcome is None and not self.stopping.is_set():
            try:
                outcome = self._jobs.ask(job, m.Claim(stage, token, name), timeout=2.0)
            except CallsheetError:
                self.stopping.wait(0.1)
        if outcome is None or not outcome.ok:
            return
        with self._lock:
            self.granted[job, stage, token] += 1
        self._say(job, m.Progress(stage, token, 1, 0.5))
        self._say(job, m.Succeeded(stage, token))

    def _say(self, job: str, message: m.Message) -> None:
        while not self.stopping.is_set():
            try:
                self._jobs.tell(job, message)
                break
            except CallsheetError:
                self.stopping.wait(0.1)

    def stop(self) -> None:
        self.stopping.set()
        self._worker.stop(timeout=2_000)
        self._jobs.close()
        self._broker.close()
