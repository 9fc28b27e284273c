"""What a running stage tells its job's owner: thinned, batched, numbered, and never in the way of its supervision."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.errors import CallsheetError
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import joined
from callsheet.jobs.messages import Chatter, Failed, Heartbeat, LogLines, Partial, Progress, Stopped, Succeeded

log = structlog.get_logger("worker")
# Seconds between two rounds: at most two messages of a kind a second. Each becomes an event that is kept, and takes all
# roles together some 3 ms of processor time, which the stage itself could have.
PAUSE = 0.5
LOOK_SECONDS = 1.0
LINES_A_MESSAGE = 120  # of 500 characters at most: below 64 KiB
BYTES_A_MESSAGE = 60 * 1024
MAX_WAITING = 1 << 20  # bytes of partial results kept while the journal is away; the oldest go first
FINAL_SECONDS = 600.0
CLOSE_SECONDS = 30.0
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
        self.telling = False

    def start(self) -> None:
        """Begin to tell. A stage that is over before this has all that it said told with its last word."""
        if not self.telling:
            self.telling = True
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

    def close(self, patience: float | None = None) -> tuple[Chatter, ...]:
        """End. What is left comes back, for the last word to carry; what is more than that can carry is told before,
        as far as that goes within `patience` seconds (default: 30).
        """
        begun, patience = time.monotonic(), CLOSE_SECONDS if patience is None else patience
        self._closing.set()
        self._due.set()
        if self.telling:
            self._thread.join(patience)
            if self._thread.is_alive():  # the journal is away: what it holds is lost, the ending is what counts
                return ()
        while self._more_than_a_round() and time.monotonic() - begun < patience and self._round():
            pass
        # What may have arrived already is numbered, and so counts once.
        return (*(report for report, _ in self._unsent), *self._next_reports())

    def _run(self) -> None:
        while not self._closing.is_set():
            self._due.wait(self._quiet_for())
            self._due.clear()
            if not self._closing.is_set():
                self._round()
                self._closing.wait(PAUSE)

    def _quiet_for(self) -> float:
        if self._unsent:
            return 0.0
        soonest = min(self._looked + LOOK_SECONDS, self._told + self._heartbeat)
        return max(0.0, soonest - time.monotonic())

    def _more_than_a_round(self) -> bool:
        return len(self._lines) > LINES_A_MESSAGE or self._waiting_bytes > BYTES_A_MESSAGE

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


class Heard(NamedTuple):
    """What became of an ending. `counts`: None when nobody knows. `handed_on`: stage and token to run next. `seq`: that
    of the job after it, if the owner has said."""

    counts: bool | None
    handed_on: tuple[str, int] | None = None
    seq: int = 0


def deliver(jobs: BlockingJobs, job: str, ending: Ending, hurried: Callable[[], bool]) -> Heard:
    """Tell the owner how a stage ended, again and again until it is heard, for 10 minutes (1 s when `hurried`)."""
    begun, pause = time.monotonic(), 0.1
    while True:
        try:
            if not isinstance(ending, Succeeded):
                jobs.tell(job, ending)
                return Heard(counts=True)
            outcome = jobs.ask(job, ending)
            return (
                Heard(True, outcome.handed_on, outcome.seq) if outcome.ok else _heard_before(jobs, job, ending, outcome)
            )
        except CallsheetError as error:
            log.warning("the end of a stage waits", job=job, stage=ending.stage, why=str(error))
        if time.monotonic() - begun > (1.0 if hurried() else FINAL_SECONDS):
            return Heard(counts=None)
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _heard_before(jobs: BlockingJobs, job: str, ending: Succeeded, outcome: Outcome) -> Heard:
    """A refusal may answer a repetition of what was heard: nobody else can have succeeded with this token, and what
    was handed on then runs in the name that it was asked for under."""
    log.info("a success was refused", job=job, stage=ending.stage, token=ending.token, code=outcome.code)
    found = jobs.job(job)
    stages = found.stages if found else {}
    state = stages.get(ending.stage)
    if state is None or (state.token, state.status) != (ending.token, "succeeded"):
        return Heard(counts=False)
    mine = (s for s in stages.values() if s.status == "running" and s.worker == ending.onward)
    return Heard(True, next(((s.name, s.token) for s in mine), None))
