"""Processes that die with their parent, so that `kill -9` of one leaves no orphans; and that do not pause.

`die_with_parent()` is for a child that was forked. A program is started through this file, run as a script:
`python -I -S process.py PARENT SIGNAL program arguments…` asks the kernel the same and becomes the program.
The kernel sends the signal when the *thread* that started the child ends: start children from one that stays.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None, sig: int = signal.SIGKILL) -> None:
    """Have the kernel send `sig` to this process when its parent ends; leave at once if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def dying_with_us(command: list[str], sig: int = signal.SIGKILL) -> list[str]:
    """The command line that starts a program so that it gets `sig` when this process ends."""
    return [
        sys.executable,
        "-I",
        "-S",
        __file__,
        str(os.getpid()),
        str(int(sig)),
        *command,
    ]


def settle() -> None:
    """What was imported and made so far stays: have the garbage collector look at it no more. (Looking at all of it
    stopped a host for 60 ms now and then.)"""
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606  the caller gives a command, not a shell line
