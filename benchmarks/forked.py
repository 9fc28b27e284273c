"""A role as a fork of this process, with all its imports done: for quick runs, where starting is most of the time."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from callsheet.config.process import die_with_parent

ROLES = ("callsheet.actors.host", "callsheet.actors.stages.worker", "callsheet.http.serve")


class Forked:
    """What of `subprocess.Popen` is used here, over a fork."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        for module in ROLES:  # the first time
            importlib.import_module(module)
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_become, args=(list(arguments), dict(env), log, os.getpid()))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, when it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a role", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _become(arguments: list[str], env: dict[str, str], log: Path, parent: int) -> None:
    die_with_parent(parent)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["callsheet", *arguments]
    from callsheet.cli import main  # noqa: PLC0415  (loaded already; the command line is what a role starts with)

    main()
