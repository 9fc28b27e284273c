"""What the service takes while there is nothing to do: processor time and memory of each role and of the two Redis."""

from __future__ import annotations

import contextlib
import time

import psutil

from benchmarks.figures import Figure
from benchmarks.stand import Stand, until
from benchmarks.watchers import answers, free_port

SETTLED = 5.0  # seconds in which what starts has started


def run(stand: Stand) -> list[Figure]:
    """Started as by `callsheet up`, on one machine. A worker loads a model with the first stage that needs it."""
    port, seconds = free_port(), 1.0 if stand.quick else 10.0
    with (
        stand.flush(),
        stand.role("host") as host,
        stand.role("worker", "--queue", "cpu", "--queue", "io") as worker,
        stand.role("api", port=port) as api,
    ):
        until(lambda: answers(port), "the API is ready", api, every=0.1)
        time.sleep(0.0 if stand.quick else SETTLED)
        pids = {
            "host": host.pid,
            "worker, with its stage children": worker.pid,
            "API, two processes": api.pid,
            "Redis, journal": stand.journal.pid,
            "Redis, broker": stand.broker.pid,
        }
        families = {name: _family(pid) for name, pid in pids.items()}
        taken: dict[str, list[float]] = {name: [] for name in families}
        for _ in range(stand.repeats):
            before = {name: _seconds(family) for name, family in families.items()}
            time.sleep(seconds)
            for name, family in families.items():
                taken[name].append(100 * (_seconds(family) - before[name]) / seconds)
        held = {name: sum(map(_held, family)) / 2**20 for name, family in families.items()}
    figures = [Figure(f"idle: {name}", "% of one CPU", tuple(shares)) for name, shares in taken.items()]
    return figures + [Figure(f"idle: {name}, memory", "MiB", (size,), note="not shared") for name, size in held.items()]


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _seconds(family: list[psutil.Process]) -> float:
    return sum(map(_taken, family))


def _taken(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):  # a guardian's parent, that has ended since
        return float(sum(process.cpu_times()[:2]))
    return 0.0


def _held(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_full_info().uss)
    return 0
