"""Messages applied a second by one host, and by a bare client that sends Redis the same commits: the host's ceiling."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import psutil

from benchmarks.ceiling import ceiling
from benchmarks.figures import Figure
from benchmarks.stand import PARTITIONS, Stand, until
from benchmarks.stories import Told, put_into_mailboxes, taking_turns, unread, whole_life
from callsheet.actors.keys import PartitionKeys
from callsheet.jobs.graph import StageSpec

GRAPH = (StageSpec("only"),)


def run(stand: Stand) -> list[Figure]:
    """Host and ceiling in turn."""
    jobs, reports = (40, 5) if stand.quick else (500, 40)
    told = list(taking_turns([whole_life(GRAPH, reports) for _ in range(jobs)]))
    hosts, cpus, raws = [], [], []
    for _ in range(stand.repeats):
        rate, cpu = host_rate(stand, told)
        hosts.append(rate)
        cpus.append(cpu)
        raws.append(ceiling(stand, told))
    load = f"{len(told):,} messages: submit, claim, {reports} progress and success of {jobs} jobs"
    return [
        Figure("messages applied by one host", "/s", tuple(hosts), 5000, note=load),
        Figure("the same commits from a bare client", "/s", tuple(raws)),
        Figure("host, of the bare client's", "", tuple(h / r for h, r in zip(hosts, raws, strict=True))),
        Figure("CPU of the host", "µs a message", tuple(cpus)),
    ]


def host_rate(stand: Stand, told: Sequence[Told]) -> tuple[float, float]:
    """Messages a second, and µs of CPU for each. The host is frozen while its mailboxes are filled."""
    with stand.flush() as client, stand.role("host", lease_seconds=300, worker_lost_after_seconds=3600) as host:
        host.send_signal(signal.SIGSTOP)
        put_into_mailboxes(client, told)
        process = psutil.Process(host.pid)
        cpu = sum(process.cpu_times()[:2])
        begun = time.perf_counter()
        host.send_signal(signal.SIGCONT)
        seconds = until(lambda: unread(client) == 0, "every message is applied", host) - begun
        cpu = sum(process.cpu_times()[:2]) - cpu
        dead = sum(client.xlen(PartitionKeys(n).dead) for n in range(PARTITIONS))
        assert dead == 0, f"{dead} messages were set aside"
        return len(told) / seconds, 1e6 * cpu / len(told)
