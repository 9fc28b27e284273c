"""A job run to its end in one process, without Redis: the same rules, the same stage functions, files in a folder.

For trying a pipeline while writing it. Nobody owns the job, since nobody else could want it.
"""

from __future__ import annotations

import mimetypes
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callsheet.actors.clock import wall_clock
from callsheet.actors.keys import new_job_id
from callsheet.actors.stages.child_main import run
from callsheet.actors.stages.child_wire import Advanced, Done, FromChild, Raised, Said, Showed
from callsheet.actors.stages.request import request_of
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.store import BadFileError, stage_folder
from callsheet.jobs.draft import Decision
from callsheet.jobs.effects import ClearTimer, Dispatch, SetTimer
from callsheet.jobs.job import ACTIVE, FileRef, InputRef, Job
from callsheet.jobs.messages import Claim, Failed, Fired, Message, Submit, Succeeded
from callsheet.jobs.rules import decide
from callsheet.pipelines.declare import Pipeline

PIECE = 1 << 20
Told = Callable[[str, FromChild], None]


class LocalRun:
    """One job of a pipeline. `told` gets what each stage says, with its name, as it says it."""

    def __init__(self, pipeline: Pipeline, root: Path, told: Told) -> None:
        self._pipeline, self._root, self._told = pipeline, root, told
        self._store = FolderStore(root / "store")
        self._job: Job | None = None
        self._due: deque[Dispatch] = deque()
        self._timers: dict[str, SetTimer] = {}

    def run(self, source: Path, params: dict[str, Any]) -> Job:
        """The job, once it has ended: completed or failed."""
        job = new_job_id()
        self._tell(Submit(job, "local", self._pipeline.name, params, self._pipeline.specs, self._take_in(job, source)))
        while self._now.status in ACTIVE:
            if self._due:
                self._stage(self._due.popleft())
            else:
                self._wait_for_a_retry()
        return self._now

    def path(self, file: FileRef) -> Path:
        """Where a published file of the job is."""
        return self._store.path(self._now.id, file.folder, file.name)

    @property
    def _now(self) -> Job:
        if self._job is None:
            raise LookupError("nothing was submitted yet")
        return self._job

    def _take_in(self, job: str, source: Path) -> InputRef:
        upload = self._store.new_upload()
        with source.open("rb") as stream:
            while piece := stream.read(PIECE):
                upload.write(piece)
        ref = InputRef(source.name, upload.bytes, upload.sha256, mimetypes.guess_type(source.name)[0] or "")
        self._store.accept_input(job, upload)
        return ref

    def _stage(self, dispatch: Dispatch) -> None:
        name, token = dispatch.stage, dispatch.token
        self._tell(Claim(name, token, "here"))
        folder = self._root / "work" / stage_folder(token, name)
        folder.mkdir(parents=True)
        request = request_of(self._now, name, folder, lambda file: str(self.path(file)))
        heard = run(request, {self._pipeline.name: self._pipeline}, _Voice(name, self._told))
        self._told(name, heard)
        self._tell(self._ending(dispatch, folder, heard))
        shutil.rmtree(folder)

    def _ending(self, dispatch: Dispatch, folder: Path, heard: Done | Raised) -> Succeeded | Failed:
        if isinstance(heard, Raised):
            return Failed(dispatch.stage, dispatch.token, heard.code, heard.message, heard.retryable)
        out = heard.output
        try:
            files = self._store.publish(self._now.id, stage_folder(dispatch.token, dispatch.stage), folder, out.files)
        except BadFileError as error:  # as a worker says it
            return Failed(dispatch.stage, dispatch.token, "bad_stage_output", f"The stage is wrong: {error}.")
        return Succeeded(dispatch.stage, dispatch.token, files, out.data, out.result, out.items, out.input)

    def _tell(self, message: Message) -> None:
        decision = decide(self._job, message, wall_clock())
        if not decision.outcome.ok:
            raise AssertionError(f"{message} was refused: {decision.outcome.code}")
        self._job = decision.job
        self._carry_out(decision)

    def _carry_out(self, decision: Decision) -> None:
        for effect in decision.effects:
            match effect:
                case Dispatch():
                    self._due.append(effect)
                case SetTimer():
                    self._timers[effect.timer] = effect
                case ClearTimer():
                    self._timers.pop(effect.timer, None)
                case _:
                    pass  # nothing else has to happen where nobody else is

    def _wait_for_a_retry(self) -> None:
        timer = min((t for name, t in self._timers.items() if name.startswith("retry:")), key=lambda t: t.due)
        time.sleep(max(0, timer.due - wall_clock()) / 1000)
        del self._timers[timer.timer]
        self._tell(Fired(timer.timer, timer.token))


class _Voice:
    """What a stage speaks with, here."""

    def __init__(self, stage: str, told: Told) -> None:
        self._stage, self._told = stage, told

    def progress(self, progress: Advanced) -> None:
        self._told(self._stage, progress)

    def say(self, line: str) -> None:
        self._told(self._stage, Said(line))

    def send(self, message: Showed) -> None:
        self._told(self._stage, message)
