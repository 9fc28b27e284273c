"""Become another program that dies with its parent and has limits. Run as a file: `python -I -S launch.py …`.

    launch.py PARENT_PID ADDRESS_SPACE FILE_SIZE CPU_SECONDS PROGRAM [ARGUMENT…]

A file of its own, and not `preexec_fn`, because that runs Python between fork and exec, which can deadlock when the
parent has threads. Sizes are bytes; 0 leaves a limit as it is. Exit code 125: the parent was gone already.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; it survives execve
ORPHANED = 125


def main(arguments: list[str]) -> None:
    """Take on the conditions, then become the program."""
    parent, *limits = (int(argument) for argument in arguments[:4])
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the line above took effect: no signal will come
        sys.exit(ORPHANED)
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)
    for kind, limit in zip(kinds, limits, strict=True):
        if limit:  # between soft and hard lies the time in which a program may answer SIGXCPU before SIGKILL
            resource.setrlimit(kind, (limit, limit + 5 if kind == resource.RLIMIT_CPU else limit))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(arguments[4], arguments[4:])  # noqa: S606  (a list, no shell; that is what this file is for)


if __name__ == "__main__":
    main(sys.argv[1:])
