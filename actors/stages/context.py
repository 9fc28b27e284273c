"""What a stage function is given, in the stage child: its inputs, and a voice to tell how it goes."""

from __future__ import annotations

import functools
import socket
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from callsheet.actors.stages.child_wire import Advanced, Done, FromChild, Raised, Request, Said, Showed, frame
from callsheet.actors.stages.shelf import Shelf
from callsheet.jobs.reports import MAX_LINE, MAX_LOG_LINES
from callsheet.pipelines.declare import InputFile

PROGRESS_SECONDS = 0.05  # progress is thinned here for cheapness, and to what watchers get by the worker
MAX_PARTIAL = 60 * 1024  # bytes of JSON; with the rest of its message below 64 KiB
DROPPED = "The rest of this stage's log is dropped."


class Voice:
    """The child's end of the conversation. May be used by any thread of a stage."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self._lock = threading.Lock()
        self._progress: Advanced | None = None
        self._told = 0.0
        self._waiting = threading.Event()
        self._lines = 0
        threading.Thread(target=self._tell_the_latest, name="voice", daemon=True).start()

    def send(self, message: FromChild) -> None:
        """Send a message, and the progress before it."""
        framed = frame(message)
        with self._lock:
            self._flush()
            self.control.sendall(framed)

    def finish(self, ending: Done | Raised) -> None:
        """The last word of a stage; the next one starts afresh."""
        self.send(ending)
        self._lines = 0

    def progress(self, progress: Advanced) -> None:
        """Remember how far the stage is, and tell it soon; only the latest counts."""
        self._progress = progress
        if not self._waiting.is_set():
            self._waiting.set()

    def say(self, line: str) -> None:
        """Send a log line, unless there were too many."""
        self._lines += 1
        if self._lines <= MAX_LOG_LINES:
            self.send(Said(line[:MAX_LINE] if self._lines < MAX_LOG_LINES else DROPPED))

    def _tell_the_latest(self) -> None:
        """A thread of its own, so that the last progress before a long silence is told, too."""
        while self._waiting.wait():
            time.sleep(max(0.0, self._told + PROGRESS_SECONDS - time.monotonic()))
            self._waiting.clear()
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            self._told = time.monotonic()
            self.control.sendall(frame(progress))


class Speaker(Protocol):
    """Whoever a stage speaks through."""

    def progress(self, progress: Advanced) -> None:
        """Tell how far the stage is; only the latest counts."""

    def say(self, line: str) -> None:
        """Tell a line of the log."""

    def send(self, message: Showed) -> None:
        """Tell a piece of the result."""


class ChildContext:
    """The StageContext of one request."""

    def __init__(self, request: Request, params: Any, voice: Speaker) -> None:
        self._request = request
        self._voice = voice
        self._over = False
        self.params = params
        self.ledger = Path(request.ledger)
        self.folder = Path(request.folder)
        self.item = request.item
        self._shelf = Shelf(self.folder)

    def close(self) -> None:
        """The stage is over: what a thread of it still says is not the next stage's."""
        self._over = True

    @functools.cached_property
    def input(self) -> InputFile:
        """See StageContext. Where the store is elsewhere it is fetched when it is first asked for."""
        asked = self._request
        return InputFile(self._shelf.bring(asked.input, "source"), asked.filename, asked.media_type, asked.bytes)

    def file(self, stage: str, name: str) -> Path:
        """See StageContext. Where the store is elsewhere it is fetched when it is first asked for."""
        try:
            place = self._request.files[stage][name]
        except KeyError:
            raise LookupError(f"stage {stage!r} published no file {name!r}") from None
        return self._shelf.bring(place, name)

    def data(self, stage: str) -> dict[str, Any]:
        """See StageContext."""
        try:
            return self._request.data[stage]
        except KeyError:
            raise LookupError(f"stage {stage!r} gave back no data") from None

    def instances(self, stage: str) -> tuple[str, ...]:
        """See StageContext."""
        return self._request.instances.get(stage, ())

    def progress(self, fraction: float, message: str = "") -> None:
        """See StageContext."""
        if not self._over:
            self._voice.progress(Advanced(float(fraction), str(message)[:MAX_LINE]))

    def log(self, line: str) -> None:
        """See StageContext."""
        for one in str(line).splitlines() or [""]:
            if not self._over:
                self._voice.say(one)

    def partial(self, data: dict[str, Any]) -> None:
        """See StageContext."""
        size = len(msgspec.json.encode(data))
        if size > MAX_PARTIAL:
            self.log(f"A partial result of {size} bytes is dropped; {MAX_PARTIAL} at most.")
        elif not self._over:
            self._voice.send(Showed(data, size))
