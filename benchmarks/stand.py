"""Where everything is measured: one Redis that fsyncs always, and the roles of Callsheet started against it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from benchmarks.forked import Forked
from callsheet.actors.keys import PartitionKeys
from callsheet.config.process import dying_with_us
from callsheet.config.settings import environment
from tests.servers import RedisServer

ROOT = Path(__file__).resolve().parent.parent
PARTITIONS = 16
PATIENCE = 60.0
Running = subprocess.Popen[bytes] | Forked
AnyRunning = TypeVar("AnyRunning", subprocess.Popen[bytes], Forked)


class Stand:
    """`journal` is the one Redis, ours and that of each peer; `broker` the one beside it, as with `callsheet up`."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "roles.log"
        self.quick = quick
        self.repeats = 1 if quick else 5
        self.journal = RedisServer(folder / "journal", "journal", "--databases", "2")
        self.broker = RedisServer(folder / "broker", "broker")

    def __enter__(self) -> Self:
        self.journal.start()
        self.broker.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.__exit__(*error)
        self.broker.__exit__(*error)

    def flush(self) -> Any:
        """Forget everything; a client of the empty journal. Nothing of ours may run meanwhile."""
        self.journal.flush()
        self.broker.flush()
        return self.journal.client()

    def environment(self, *, one_server: bool = False, **changes: Any) -> dict[str, str]:
        """The environment of a role. `one_server`: the broker is another database of the journal's Redis."""
        broker = f"{self.journal.url}?db=1" if one_server else self.broker.url
        wanted = {"redis_url": self.journal.url, "broker_url": broker, "data": self.folder / "data"}
        wanted |= {"log_level": "warning", "log_format": "console", **changes}
        set_ = environment(**{name: str(value) for name, value in wanted.items()})
        return {**set_, "PYTHONPATH": str(ROOT)}

    def peer_environment(self) -> dict[str, str]:
        """The environment of somebody else's worker: where to find our modules, and the one Redis."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_REDIS": str(self.journal.socket)}

    @contextmanager
    def role(self, *arguments: str, one_server: bool = False, **changes: Any) -> Iterator[Running]:
        """A role of Callsheet while the block runs: `with stand.role("host", idle_seconds=3600):`."""
        env = self.environment(one_server=one_server, **changes)
        with ExitStack() as stack:
            if self.quick:
                role: Running = stack.enter_context(_ended(Forked(arguments, env, self.log)))
            else:
                role = stack.enter_context(self.process([sys.executable, "-P", "-m", "callsheet", *arguments], env))
            if arguments[0] == "host":
                until(lambda: self.owned() == PARTITIONS, "the host owns every partition", role)
            yield role

    @contextmanager
    def process(self, command: list[str], env: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A program while the block runs; what it prints goes to a file in our folder."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                dying_with_us(command), env=env, cwd=self.folder, stderr=log, **{"stdout": log, **options}
            )
        with _ended(process):
            yield process

    def owned(self) -> int:
        """How many partitions have an owner."""
        with self.journal.client() as client:
            return int(client.exists(*(PartitionKeys(n).lease for n in range(PARTITIONS))))


@contextmanager
def _ended(process: AnyRunning) -> Iterator[AnyRunning]:
    """A process that is gone after the block."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(
    holds: Callable[[], bool],
    what: str,
    process: Running | None = None,
    patience: float = PATIENCE,
    every: float = 0.01,
) -> float:
    """Wait until it holds; the moment (perf_counter) at which that was seen."""
    deadline = time.monotonic() + patience
    while not holds():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"not reached: {what}; the process ended, and roles.log says why")
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached within {patience:g} s: {what}")
        time.sleep(every)
    return time.perf_counter()
