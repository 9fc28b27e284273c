"""A process under test with all its descendants, found by a tag in their environment, and what it has printed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import httpx
import psutil

from tests.waiting import eventually, within

TAG = "CALLSHEET_TEST_TAG"
UNKEPT = httpx.Limits(max_keepalive_connections=0)  # else one may be closed at the very moment of the next request


def free_port() -> int:
    """A port that nobody listens on right now, and that no connection is given meanwhile: they have those above."""
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Running:
    """A started command. Its output goes to a file, so that nobody has to read along."""

    def __init__(self, command: list[str], output: Path, **environment: str) -> None:
        self.output = output
        self.tag = uuid.uuid4().hex
        with output.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, TAG: self.tag, **environment},
            )

    @property
    def text(self) -> str:
        """Everything it has printed so far."""
        return self.output.read_text(errors="replace")

    def until(self, pattern: str, seconds: float = 60.0) -> None:
        """Wait until it has printed something that matches."""

        def seen() -> bool:
            if re.search(pattern, self.text):
                return True
            assert self.process.poll() is None, f"it ended, without printing {pattern!r}:\n{self.text}"
            return False

        eventually(seen, seconds)

    def family(self) -> list[psutil.Process]:
        """It and all its living descendants, also those that left its session or lost their parent."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def is_gone(self) -> None:
        """Wait until nothing of it lives: what was killed takes a moment to die."""
        eventually(lambda: self.family() == [])

    def pid_of(self, name: str) -> int:
        """The process id of a role, from the log."""
        return int(re.findall(rf"started name={name} pid=(\d+)", self.text)[-1])

    def signal(self, number: signal.Signals) -> None:
        """Send it (and nobody else) a signal."""
        self.process.send_signal(number)

    def ends(self, seconds: float = 60.0) -> int:
        """Wait until it has ended: its exit code."""
        return self.process.wait(seconds)

    def ends_within(self, seconds: float) -> int:
        """Wait until it has ended, as it has promised to: its exit code."""
        within(lambda: self.process.poll() is not None, seconds)
        return self.ends()

    def kill_all(self) -> None:
        """Kill all of it; who dies with another that was killed before is dead already."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def clean_up(self) -> None:
        """Kill what is left, whatever the test did."""
        self.kill_all()
        self.process.wait()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(TAG) == self.tag)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
