"""What a running stage tells its job's owner: thinned, batched, numbered, and never in the way of its supervision."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.errors import CallsheetError
from callsheet.jobs.draft import Outcome
from callsheet.jobs.messages import Failed, Heartbeat, LogLines, Partial, Progress, Stopped, Succeeded

log = structlog.get_logger("worker")
PAUSE = 0.25  # seconds between two rounds: at most 4 messages of a kind a second
LOOK_SECONDS = 1.0
LINES_A_MESSAGE = 120  # of 500 characters at most: below 64 KiB
BYTES_A_MESSAGE = 60 * 1024
MAX_WAITING = 1 << 20  # bytes of partial results kept while the journal is away; the oldest go first
FINAL_SECONDS = 600.0
CLOSE_SECONDS = 30.0
Chatter = Progress | LogLines | Partial
Ending = Succeeded | Failed | Stopped


class Reporter:
    """A thread that speaks for one running stage. Its methods only remember; nothing here waits for Redis but `close`.

    Each second it also looks whether the dispatch still counts, and calls `on_lost` when it does not: an interrupt that
    was published may have been lost. After the journal was away, it looks before it says anything.
    """

    def __init__(
        self, jobs: BlockingJobs, job: str, stage: str, token: int, *, heartbeat: float, on_lost: Callable[[], None]
    ) -> None:
        self._jobs, self._job, self._stage, self._token = jobs, job, stage, token
        self._heartbeat, self._on_lost = heartbeat, on_lost
        self._lock = threading.Lock()
        self._progress: tuple[float, str] | None = None
        self._lines: deque[str] = deque()
        self._pieces: deque[tuple[int, dict[str, Any]]] = deque()
        self._waiting_bytes = 0
        self._numbers = 0
        self._unsent: deque[tuple[Chatter, str]] = deque()
        self._told = self._looked = time.monotonic()
        self._away = False
        self._due, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reports-{stage}", daemon=True)
        self._thread.start()

    def progress(self, fraction: float, message: str) -> None:
        """How far the stage is; only the latest counts."""
        self._progress = (fraction, message)
        self._due.set()

    def line(self, line: str) -> None:
        """A line for the job's log."""
        with self._lock:
            self._lines.append(line)
        self._due.set()

    def partial(self, data: dict[str, Any], size: int) -> None:
        """A piece of the result, `size` bytes of JSON."""
        with self._lock:
            self._pieces.append((size, data))
            self._waiting_bytes += size
            while self._waiting_bytes > MAX_WAITING:
                self._waiting_bytes -= self._pieces.popleft()[0]
        self._due.set()

    def close(self, patience: float | None = None) -> None:
        """Tell what is left, as far as that goes within `patience` seconds (default: 30), and end."""
        self._closing.set()
        self._due.set()
        self._thread.join(CLOSE_SECONDS if patience is None else patience)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._due.wait(self._quiet_for())
            self._due.clear()
            if not self._closing.is_set():
                self._round()
                self._closing.wait(PAUSE)
        while self._round() and self._anything():
            pass

    def _quiet_for(self) -> float:
        if self._unsent:
            return 0.0
        soonest = min(self._looked + LOOK_SECONDS, self._told + self._heartbeat)
        return max(0.0, soonest - time.monotonic())

    def _anything(self) -> bool:
        return bool(self._unsent or self._progress or self._lines or self._pieces)

    def _round(self) -> bool:
        """Look, tell what was left behind, then one message of each kind. False: the journal is away."""
        try:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._look()
            self._drain()
            for report in self._next_reports():
                self._unsent.append((report, secrets.token_hex(12)))
            self._drain()
            if time.monotonic() - self._told >= self._heartbeat:
                self._tell(Heartbeat(self._stage, self._token), secrets.token_hex(12))
        except CallsheetError as error:
            if not self._away:
                log.warning("reports wait", job=self._job, stage=self._stage, why=str(error))
            self._away = True
            return False
        self._away = False
        return True

    def _look(self) -> None:
        status, state = self._jobs.stage(self._job, self._stage)
        self._looked = time.monotonic()
        counts = state is not None and state.token == self._token and state.status == "running"
        if not counts or status not in ("queued", "running"):
            self._on_lost()

    def _drain(self) -> None:
        """Tell in order. What may have arrived already is repeated as it was, number and all, and so counts once."""
        while self._unsent:
            self._tell(*self._unsent[0])
            self._unsent.popleft()

    def _tell(self, report: Chatter | Heartbeat, mid: str) -> None:
        self._jobs.tell(self._job, report, mid)
        self._told = time.monotonic()

    def _next_reports(self) -> list[Chatter]:
        reports: list[Chatter] = []
        with self._lock:
            lines = [self._lines.popleft() for _ in range(min(LINES_A_MESSAGE, len(self._lines)))]
            pieces = self._next_pieces()
            progress, self._progress = self._progress, None
        if lines:
            reports.append(LogLines(self._stage, self._token, self._number(), tuple(lines)))
        if pieces:
            reports.append(Partial(self._stage, self._token, self._number(), joined(pieces)))
        if progress:
            reports.append(Progress(self._stage, self._token, self._number(), *progress))
        return reports

    def _next_pieces(self) -> list[dict[str, Any]]:
        room = BYTES_A_MESSAGE
        taken: list[dict[str, Any]] = []
        while self._pieces and (not taken or self._pieces[0][0] <= room):
            size, piece = self._pieces.popleft()
            room -= size
            self._waiting_bytes -= size
            taken.append(piece)
        return taken

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Pieces of a result as one: lists under the same key are joined, of other values the latest counts."""
    merged: dict[str, Any] = {}
    for piece in pieces:
        for key, value in piece.items():
            both = isinstance(value, list) and isinstance(merged.get(key), list)
            merged[key] = [*merged[key], *value] if both else value
    return merged


def deliver(jobs: BlockingJobs, job: str, ending: Ending, hurried: Callable[[], bool]) -> bool | None:
    """Tell the owner how a stage ended, again and again until it is heard, for 10 minutes (1 s when `hurried`).

    True: it counts. False: the dispatch does not count any more. None: nobody knows.
    """
    begun, pause = time.monotonic(), 0.1
    while True:
        try:
            if not isinstance(ending, Succeeded):
                jobs.tell(job, ending)
                return True
            outcome = jobs.ask(job, ending)
            return outcome.ok or _counted_before(jobs, job, ending, outcome)
        except CallsheetError as error:
            log.warning("the end of a stage waits", job=job, stage=ending.stage, why=str(error))
        if time.monotonic() - begun > (1.0 if hurried() else FINAL_SECONDS):
            return None
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _counted_before(jobs: BlockingJobs, job: str, ending: Succeeded, outcome: Outcome) -> bool:
    """A refusal may answer a repetition of what was heard: nobody else can have succeeded with this token."""
    log.info("a success was refused", job=job, stage=ending.stage, token=ending.token, code=outcome.code)
    _, state = jobs.stage(job, ending.stage)
    return state is not None and state.token == ending.token and state.status == "succeeded"
