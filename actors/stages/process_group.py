"""Killing a process group, and knowing that all of it is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

POLL = 0.003
DEAD = (b"Z", b"X")  # ended; whoever should have collected it has not yet


def kill_group(process: subprocess.Popen[bytes], patience: float) -> bool:
    """Kill a group leader with all its group. True when nothing of it lives any more; gives up after `patience` s.

    One SIGKILL reaches every member, also one that is just forking: the kernel lets no fork pass a pending kill. The
    leader must not have been collected yet: only until then its number cannot belong to anybody else.
    """
    if process.returncode is not None:
        raise ValueError("the group leader was collected before its group was killed")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + patience
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        return False
    while group_lives(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def group_lives(group: int) -> bool:
    """Whether any process of a group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return any(_member(entry, group) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _member(entry: Path, group: int) -> bool:
    try:
        stat = (entry / "stat").read_bytes()
    except OSError:
        return False
    # "pid (name) state ppid pgrp …", and the name may hold anything
    state, _, group_of_it = stat.rpartition(b") ")[2].split(b" ", 3)[:3]
    return int(group_of_it) == group and state not in DEAD


def resident_bytes(pid: int) -> int:
    """The memory a process has in use; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
