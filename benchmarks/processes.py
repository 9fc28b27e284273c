"""What a process and all its descendants take: processor time and memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil


def cpu_seconds(*pids: int) -> float:
    """The CPU that these processes and all theirs have used, those that are gone included."""
    return sum(_summed(pid, lambda process: sum(process.cpu_times()[:4])) for pid in pids)


def own_bytes(pid: int) -> int:
    """What a process and all its descendants hold and do not share, in bytes."""
    return int(_summed(pid, lambda process: process.memory_full_info().uss))


def _summed(pid: int, figure: Callable[[psutil.Process], float]) -> float:
    root, total = psutil.Process(pid), 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended since, or is about to
            total += figure(process)
    return total
