"""Keeps a table of processes running: starts them in order, restarts what dies, stops them in reverse, leaves none.

Each process has a session of its own, so that Ctrl-C in the terminal reaches only us, and asks the kernel to be
killed when we end, so that `kill -9` of us leaves no orphan. Everything happens in the main thread: the kernel ties
that promise to the thread that started the process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import FrameType

import structlog

from callsheet.config.process import dying_with_us

Process = subprocess.Popen[bytes]
log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds before a dead role starts again, doubled with each death
STABLE_AFTER = 30.0  # seconds of life after which earlier deaths are forgotten
TRIES_BEFORE_READY = 3  # before everything was ready once, a role that keeps dying is a mistake, not an accident
MISTAKE = 2  # the exit code of a role that has said in one line what is wrong with its settings
# Seconds: for all together, for each at least, in a hurry. Ten are promised: a busy machine takes the rest to end what
# is killed, and us.
STOP_BUDGET, LEAST_GRACE, HURRIED_GRACE = 8.0, 1.0, 0.5
POLL, SLOW_START = 0.05, 10.0


class GaveUpError(Exception):
    """A role cannot be started. The message says which, and where to look."""


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running. Lower ranks start first and stop last."""

    name: str
    command: Sequence[str]
    rank: int = 0
    grace: float = 2.0
    environment: Mapping[str, str] | None = None
    ready: Callable[[], bool] = lambda: True
    keeps: tuple[int, ...] = ()  # file descriptors it holds open: a lock lives as long as its last holder
    logfile: Path | None = None


@dataclass(slots=True)
class _Running:
    """A role, its process if it has one, and its recent history."""

    role: Role
    process: Process | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs the roles until it is told to stop by SIGINT, SIGTERM or SIGHUP. A second signal hurries."""

    def __init__(self, roles: Sequence[Role], on_ready: Callable[[], None] = lambda: None) -> None:
        self._all = [_Running(role) for role in sorted(roles, key=lambda role: role.rank)]
        self._on_ready = on_ready
        self._active: list[_Running] = []
        self._was_ready = False
        self._signals = 0

    def run(self) -> int:
        """Run to the end; the exit code is 0 after a signal, 1 when a role could not be started."""
        with self._listening_to_signals():
            try:
                self._run()
            except GaveUpError as error:
                log.error("giving up", reason=str(error))  # noqa: TRY400  the reason is a sentence, its traceback is ours
                return 1
            finally:
                self._stop_everything()
        return 0

    def _run(self) -> None:
        for _, rank in groupby(self._all, key=lambda running: running.role.rank):
            self._start_rank(list(rank))
            if self._signals:
                return
        self._was_ready = True
        self._on_ready()
        while not self._signals:
            self._step()

    def _start_rank(self, rank: list[_Running]) -> None:
        self._active += rank
        self._step(0.0)
        complain = time.monotonic() + SLOW_START
        while not self._signals and not all(running.role.ready() for running in rank):
            self._step(POLL)
            if time.monotonic() > complain:
                log.warning("still waiting to be ready", roles=[running.role.name for running in rank])
                complain += SLOW_START

    def _step(self, longest: float = 60.0) -> None:
        """Start what is due, sleep until a signal or something to do, and look for the dead."""
        for running in self._active:
            if running.process is None and running.due <= time.monotonic():
                self._start(running)
        dues = [running.due - time.monotonic() for running in self._active if running.process is None]
        self._sleep(max(0.0, min([longest, *dues])))
        for running in self._active:
            if running.process is not None and (status := reap(running.process)) is not None:
                self._mourn(running, status)

    def _start(self, running: _Running) -> None:
        role = running.role
        running.started = time.monotonic()
        running.process = subprocess.Popen(
            dying_with_us(list(role.command)),
            env=role.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=role.keeps,
        )
        log.info("started", name=role.name, pid=running.process.pid)

    def _mourn(self, running: _Running, status: int) -> None:
        now = time.monotonic()
        running.process = None
        running.deaths = 1 if now - running.started > STABLE_AFTER else running.deaths + 1
        if not self._was_ready and (status == MISTAKE or running.deaths >= TRIES_BEFORE_READY):
            often = f" ({running.deaths} times in a row)" if running.deaths > 1 else ""
            raise GaveUpError(f"{running.role.name} {ending(status)}{often}{_hint(running.role)}")
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (running.deaths - 1))
        running.due = now + pause
        log.warning("starting again", name=running.role.name, because=ending(status), in_seconds=pause)

    def _stop_everything(self) -> None:
        """Stop rank by rank. Who is quick leaves its time to the next; everybody gets a moment at least."""
        by_rank = groupby(reversed(self._active), key=lambda running: running.role.rank)
        ranks = [[(r.role, r.process) for r in rank if r.process is not None] for _, rank in by_rank]
        end = time.monotonic() + STOP_BUDGET
        for to_come, rank in zip(reversed(range(len(ranks))), ranks, strict=True):
            self._stop_rank(rank, end - to_come * LEAST_GRACE)

    def _stop_rank(self, rank: list[tuple[Role, Process]], end: float) -> None:
        begun = time.monotonic()
        for _, process in rank:
            process.send_signal(signal.SIGTERM)  # its main process only: it knows best how to stop its children
        while any(reap(process) is None and self._may_go_on(role, begun, end) for role, process in rank):
            self._sleep(POLL)
        for role, process in rank:
            if reap(process) is None:
                log.warning("did not stop in time: killed", name=role.name)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log.info("stopped", name=role.name, code=process.returncode)

    def _may_go_on(self, role: Role, begun: float, end: float) -> bool:
        """Whether it has time left. Who hurries gives a moment only."""
        grace = role.grace if self._signals < 2 else min(role.grace, HURRIED_GRACE)
        return time.monotonic() < min(begun + grace, end)

    def _sleep(self, seconds: float) -> None:
        self._bell.settimeout(max(seconds, 0.001))
        with suppress(TimeoutError):
            self._bell.recv(512)

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        """Count signals to stop, and wake up for them and for the death of a child, at once."""
        self._bell, ringer = socket.socketpair()
        ringer.setblocking(False)
        stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._count) for number in stops}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        fd = signal.set_wakeup_fd(ringer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            ringer.close()
            self._bell.close()

    def _count(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        what = "stopping" if self._signals == 1 else "hurrying"
        log.info(what, signal=signal.Signals(number).name)


def reap(process: Process) -> int | None:
    """The exit status of a process that has ended, else None. What is left of its group is killed first.

    First looking, then killing, then collecting: until it is collected its number cannot belong to anybody else.
    """
    if process.returncode is None:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def ending(status: int) -> str:
    """How a process ended, for a person."""
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"


def _hint(role: Role) -> str:
    if role.logfile is None or not role.logfile.exists():
        return ""
    lines = role.logfile.read_text(errors="replace").strip().splitlines()
    return f"; its last words ({role.logfile}): {lines[-1]}" if lines else ""
