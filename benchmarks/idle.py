"""What the service takes while there is nothing to do: processor time and memory of each role and of the two Redis."""

from __future__ import annotations

import time

from benchmarks.figures import Figure
from benchmarks.processes import cpu_seconds, own_bytes
from benchmarks.stand import Stand, until
from benchmarks.watchers import answers
from tests.house.running import free_port

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
        taken: dict[str, list[float]] = {name: [] for name in pids}
        for _ in range(stand.repeats):
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            time.sleep(seconds)
            for name, pid in pids.items():
                taken[name].append(100 * (cpu_seconds(pid) - before[name]) / seconds)
        held = {name: own_bytes(pid) / 2**20 for name, pid in pids.items()}
    figures = [Figure(f"idle: {name}", "% of one CPU", tuple(shares)) for name, shares in taken.items()]
    return figures + [Figure(f"idle: {name}, memory", "MiB", (size,), note="not shared") for name, size in held.items()]
