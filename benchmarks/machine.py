"""What the figures were taken on: without it they say nothing."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

import msgspec
import psutil

from callsheet.config.redis_server import server_version
from tests.servers import server_binary

SYNCS = 50


class Machine(msgspec.Struct, frozen=True):
    """The machine and the moment. `fsync_ms`: a 4 KiB write and its fsync, p50, on the disk that Redis wrote to."""

    cpus: int
    memory_gib: float
    system: str
    python: str
    redis: str
    fsync_ms: float
    load_before: float
    at: str


def this_machine(folder: Path) -> Machine:
    """Look at it now; no names and addresses."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        redis=".".join(map(str, server_version(server_binary()))),
        fsync_ms=round(1000 * fsync_seconds(folder), 2),
        load_before=round(os.getloadavg()[0], 2),
        at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


def fsync_seconds(folder: Path) -> float:
    """The median time of a small durable write."""
    path, times = folder / "fsync.probe", []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    path.unlink()
    return statistics.median(times)
