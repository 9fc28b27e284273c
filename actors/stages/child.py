"""The worker's side of its stage children: start, talk, kill, keep warm. See docs/decisions/stage-child.md."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, cast

import structlog

from callsheet.actors.stages.child_wire import FromChild, Inbox, Raised, Ready, Request, Setup, frame
from callsheet.actors.stages.process_group import kill_group, resident_bytes

log = structlog.get_logger("worker")
KILL_SECONDS = 2.0
START_SECONDS = 120.0  # imports from a cold disk
SEND_SECONDS = 10.0  # an idle child reads at once; one that does not is killed when its stage is stopped
PIECE = 1 << 16  # also what a pipe holds: one read takes all there is
MAX_OUTPUT_LINES = 200  # of a stage's standard output, into the worker's log
MAX_OUTPUT_WIDTH = 400
MAX_STAGES = 2000  # then a child is replaced: small leaks (descriptors, threads, native memory) must not add up


class ChildDiedError(Exception):
    """The child ended by itself. The message says how."""


@dataclass(frozen=True)
class ChildSpec:
    """How children are started: their first message, their environment, and the memory (bytes) at which one is retired.

    It is retired when it holds that much between two stages: what it keeps is missing from the next stage's limit.
    """

    setup: Setup
    environment: Mapping[str, str]
    retire_at: int


class Child:
    """One stage child. Used by one thread at a time; started by a thread that lives as long as the worker does.

    (The kernel kills a child when the *thread* that started it ends.)
    """

    def __init__(self, spec: ChildSpec) -> None:
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        command = [sys.executable, "-P", "-u", "-m", "callsheet.actors.stages.child_main"]
        command += [str(theirs.fileno()), str(lifeline), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                env=spec.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=(theirs.fileno(), lifeline),
                start_new_session=True,
            )
        except BaseException:  # the machine may be short of processes: it must not be short of descriptors after that
            ours.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        self._control, self._output = ours, cast(IO[bytes], self._process.stdout)
        self._pidfd = os.pidfd_open(self._process.pid)
        os.set_blocking(self._output.fileno(), False)
        self._control.settimeout(SEND_SECONDS)
        self._inbox = Inbox()
        self._lines_left = MAX_OUTPUT_LINES
        self.stages = 0
        self._send(frame(spec.setup))

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group."""
        return self._process.pid

    def start(self, request: Request) -> None:
        """Have it run a stage."""
        self.stages += 1
        self._lines_left = MAX_OUTPUT_LINES
        self._send(frame(request))

    def listen(self, wake: int, seconds: Callable[[], float]) -> Iterator[FromChild | None]:
        """What it says, as it says it; None when `wake` becomes readable or `seconds()` have passed without a word.

        Raises ChildDiedError when it has ended.
        """
        with selectors.DefaultSelector() as selector:
            for source in (self._control, self._output, self._pidfd, wake):
                selector.register(source, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(seconds())}
                if self._output in ready and not self._log_output():
                    selector.unregister(self._output)
                if wake in ready or not ready:
                    yield None
                if self._control in ready:
                    yield from self._read()
                elif self._pidfd in ready:
                    raise ChildDiedError(self._ending())

    def wait_until_ready(self, wake: int) -> Raised | None:
        """Wait for its Ready; what it says instead when it cannot work. Raises ChildDiedError, TimeoutError."""
        for heard in self.listen(wake, lambda: START_SECONDS):
            match heard:
                case Ready():
                    return None
                case Raised():
                    return heard
                case _:
                    raise TimeoutError("the stage's process did not become ready")
        raise AssertionError("listen does not end")

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._peek() is None

    def kill(self) -> bool:
        """Kill it with all it has started; False if something of it could not be seen dead within KILL_SECONDS."""
        dead = kill_group(self._process, KILL_SECONDS)
        if not dead:
            log.error("a killed process is still there", group=self.pid)
        self._log_output()
        self._control.close()
        self._output.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
            os.close(self._pidfd)
        return dead

    def resident(self) -> int:
        """The bytes of memory it has in use."""
        return resident_bytes(self.pid)

    def _send(self, framed: bytes) -> None:
        with contextlib.suppress(OSError):  # it is dead: `listen` says so, and how
            self._control.sendall(framed)

    def _read(self) -> Iterator[FromChild]:
        with contextlib.suppress(ConnectionResetError):
            if data := self._control.recv(PIECE):
                yield from self._inbox.feed(data)
                return
        raise ChildDiedError(self._ending())

    def _ending(self) -> str:
        """How it ended. It is not collected here: the number of its group is still needed to kill what is left."""
        select.select([self._pidfd], [], [], 0.2)  # its socket closes a moment before it is gone
        self._log_output()
        ended = self._peek()
        if ended is None:
            return "hung up"
        if ended.si_code == os.CLD_EXITED:
            return f"exited with code {ended.si_status}"
        return f"was killed by {signal.Signals(ended.si_status).name}"

    def _peek(self) -> os.waitid_result | None:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def _log_output(self) -> bool:
        """Move what it printed into our log, up to a bound a stage; False at its end."""
        data = self._output.read(PIECE)
        for line in (data or b"").decode(errors="replace").splitlines():
            self._lines_left -= 1
            if self._lines_left >= 0 and line.strip():
                log.info("a stage's process printed", pid=self.pid, line=line[:MAX_OUTPUT_WIDTH])
        return data != b""


class Children:
    """The children of one lane of a worker: the one used last is used next, because its models are warm."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._idle: list[Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, wake: int, waits: Callable[[], None] = lambda: None) -> Child | Raised:
        """A child that is ready, or why none can work; `waits` is called if one must be started, `wake` ends the wait.

        Raises ChildDiedError, TimeoutError.
        """
        while (child := self._pop()) is not None:
            if child.alive:
                return child
            child.kill()  # the kernel was short of memory, or somebody meddled: no stage's fault
        waits()
        child = Child(self._spec)
        try:
            refusal = child.wait_until_ready(wake)
        except BaseException:
            child.kill()
            raise
        if refusal is not None:
            child.kill()
        return refusal or child

    def _pop(self) -> Child | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def warm_up(self) -> Raised | None:
        """Have one child ready before it is needed; why not, if none can work. Raises ChildDiedError, TimeoutError."""
        never, end = os.pipe()
        try:
            child = self.take(never)
        finally:
            os.close(never)
            os.close(end)
        if isinstance(child, Child):
            self.give_back(child)
            return None
        return child

    def give_back(self, child: Child) -> None:
        """Keep a child for the next stage, unless it is worn out."""
        worn = child.stages >= MAX_STAGES or child.resident() > self._spec.retire_at
        with self._lock:
            keep = not (worn or self._closed)
            if keep:
                self._idle.append(child)
        if not keep:
            child.kill()

    def close(self) -> None:
        """Kill the idle ones, and from now on each that is given back."""
        with self._lock:
            self._closed, idle = True, self._idle
            self._idle = []
        for child in idle:
            child.kill()
