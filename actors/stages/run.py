"""One dispatch, from the claim to the last report. It runs in a thread of the worker, which only supervises."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog
from msgspec.structs import replace

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.errors import CallsheetError, CorruptRecord, StorageFull, StoreAway, Unavailable
from callsheet.actors.failpoints import failpoint
from callsheet.actors.stages.child import Child, ChildDiedError, Children
from callsheet.actors.stages.child_wire import Advanced, Done, Raised, Ready, Request, Said, Showed
from callsheet.actors.stages.paid import PaidSteps
from callsheet.actors.stages.reports import Ending, Reporter, deliver
from callsheet.actors.stages.request import request_of
from callsheet.actors.stages.reuse import Reuse
from callsheet.actors.stages.work_folders import WorkFolders
from callsheet.actors.stores.store import ArtifactStore, BadFileError, stage_folder
from callsheet.actors.telemetry import tracing
from callsheet.actors.telemetry.metrics import STAGE_SECONDS
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Claim, Failed, Stopped, Succeeded
from callsheet.pipelines.declare import OutputFile

log = structlog.get_logger("worker")
LONGEST_PAUSE = 5.0
OVERTIME = 30.0  # seconds past its deadline: the owner, which stops a stage at the deadline, must be out of reach
TICK = 5.0
AT_FIRST = 0.05  # seconds in which nothing is reported: a stage that is over by then tells all with its last word
OUT_OF_MEMORY = "stage_out_of_memory"
Reason = Literal["interrupted", "shutdown"]
T = TypeVar("T")


class StopSign:
    """Tells one run to stop. A thread can wait for it, and a selector, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given = threading.Event()
        self.reason: Reason | None = None
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def give(self, reason: Reason) -> None:
        """Have it stop; the first reason stays."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
                self._given.set()
                if self.fd >= 0:
                    os.eventfd_write(self.fd, 1)

    def is_given(self) -> bool:
        """Whether it is given."""
        return self.reason is not None

    def wait(self, seconds: float) -> None:
        """Wait until it is given, `seconds` at most."""
        self._given.wait(seconds)

    def close(self) -> None:
        """Nobody selects on it any more."""
        with self._lock:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True)
class Tools:
    """What every run of a lane works with. `heartbeat` in seconds; `name` gives each run one of its own."""

    jobs: BlockingJobs
    store: ArtifactStore
    children: Children
    folders: WorkFolders
    heartbeat: float
    name: Callable[[], str]
    paid: PaidSteps
    reuse: Reuse


class StageRun:
    """One delivery of a dispatch. `worker` names this very delivery: the owner gives the dispatch to one of them.

    One that the owner has handed on to `worker` need not be claimed. `following` is what it hands on at the end.
    """

    def __init__(self, tools: Tools, job: str, stage: str, token: int, worker: str = "") -> None:
        self._tools = tools
        self._claimed = worker != ""
        self.job, self.stage, self.token, self.worker = job, stage, token, worker or tools.name()
        self.following: StageRun | None = None
        self._job: Job | None = None  # as it was when this began
        self.sign = StopSign()
        self._folder = stage_folder(token, stage)
        self._log = log.bind(job=job, stage=stage, token=token)

    def run(self) -> bool:
        """Run it to its end. False when nothing ran, for a stop before the claim was answered: offer it again."""
        try:
            claimed = self._claimed or self._until_known(self._claim)
            if claimed:
                failpoint("worker.claimed")
                begun = time.monotonic()
                self._finish(ending := self._perform())
                self._count(ending, time.monotonic() - begun)
            elif claimed is None:
                self._give_up_claim()
            return claimed is not None
        finally:
            self.sign.close()

    # -- the claim

    def _claim(self) -> bool:
        outcome = self._tools.jobs.ask(self.job, Claim(self.stage, self.token, self.worker))
        if not outcome.ok:
            self._log.info("a dispatch was turned away", code=outcome.code)
        return outcome.ok

    def _give_up_claim(self) -> None:
        """The claim may be in the mailbox and be granted yet: what follows it there gives the stage back. But not if
        the claim of another delivery has come first."""
        try:
            self._tools.jobs.tell(self.job, Stopped(self.stage, self.token, "shutdown", worker=self.worker))
        except CallsheetError as error:
            self._log.warning("a claim is left open", why=str(error))

    def _until_known(self, question: Callable[[], T]) -> T | None:
        """The owner's answer, however long the journal or the owner are away; None when told to stop meanwhile.

        Waiting holds a thread of the worker. But to give the dispatch back would be worse: its claim may be granted
        late, to a delivery that is not there any more, and cost the stage a loss and the time to notice it.
        """
        pause = 0.1
        while self.sign.reason is None:
            try:
                return question()
            except CorruptRecord:
                raise
            except CallsheetError as error:
                self._log.warning("waiting for an answer", why=str(error))
            self.sign.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    # -- the run

    def _perform(self) -> Ending:
        try:
            job = self._until_known(lambda: self._tools.jobs.job(self.job))
            if job is None:
                return self._stopped()
            self._job = job
            self._log = self._log.bind(request_id=job.origin.request_id)
            with self._span(job), self._tools.folders.folder(self.sign.is_given) as folder:
                return self._run_in(folder, job)
        except BadFileError as error:
            return self._failed("bad_stage_output", f"The stage is wrong: {error}.")
        except StoreAway as error:
            self._log.error("the artifact store could not be used", why=str(error))
            return self._failed(error.code, str(type(error)()), retryable=True)
        except CallsheetError as error:  # StorageFull, CorruptRecord
            return self._failed(error.code, str(error), retryable=isinstance(error, StorageFull | Unavailable))
        except Exception:  # noqa: BLE001  (a claimed stage is reported, whatever happens here)
            self._log.exception("the stage could not be run")
            return self._failed("worker_error", "The worker could not run the stage.", retryable=True)

    def _span(self, job: Job) -> AbstractContextManager[Any]:
        facts: dict[str, str | int] = {
            "job": job.id,
            "pipeline": job.pipeline,
            "token": self.token,
            "attempt": job.attempt,
        }
        return tracing.span(f"stage {self.stage.partition(':')[0]}", job.origin.traceparent, stage=self.stage, **facts)

    def _run_in(self, folder: Path, job: Job) -> Ending:
        reporter = Reporter(
            self._tools.jobs,
            self.job,
            self.stage,
            self.token,
            heartbeat=self._tools.heartbeat,
            on_lost=lambda: self.sign.give("interrupted"),
        )
        try:
            ending = self._found(folder, job, reporter)
            if ending is None:
                ending = self._published(folder, self._run_child(self._request(folder, job), reporter, job), reporter)
        except BaseException:
            reporter.close(0.0)
            raise
        return replace(ending, said=reporter.close(0.0 if self.sign.reason else None))

    def _found(self, folder: Path, job: Job, reporter: Reporter) -> Ending | None:
        """What the stage would give back, if it is there already: published for this job, it counts like any other."""
        found = self._tools.reuse.find(job, self.stage, folder, reporter.start)
        if found is None:
            return None
        made = found.success
        files = [OutputFile(ref.name, ref.media_type, ref.artifact) for ref in made.outputs]
        refs = self._tools.store.publish(self.job, self._folder, folder, files)
        if [ref.sha256 for ref in refs] != [ref.sha256 for ref in made.outputs]:
            self._log.error("what an earlier stage published has changed", made_by=found.job.id)
            self._tools.store.withdraw(self.job, self._folder)
            return None
        self._log.info("reused", made_by=found.job.id)
        return Succeeded(
            self.stage, self.token, refs, made.data, made.result, made.items, made.input, self._onward(), found.job.id
        )

    def _onward(self) -> str:
        return "" if self.sign.reason else self._tools.name()

    def _published(self, folder: Path, heard: Done | Ending, reporter: Reporter) -> Ending:
        """The ending of what was heard: when the stage is done, its files are in the store first."""
        if not isinstance(heard, Done):
            return heard
        out = heard.output
        if out.files:
            reporter.start()  # a store, or the ledger of what it holds, may take a while
        refs = self._tools.store.publish(self.job, self._folder, folder, out.files)
        failpoint("worker.published")
        return Succeeded(self.stage, self.token, refs, out.data, out.result, out.items, out.input, self._onward())

    def _run_child(self, request: Request, reporter: Reporter, job: Job) -> Done | Ending:
        """Run it in a child, which is dead or idle when this returns, and so is whatever it started."""
        heard: Done | Raised | None = None
        child = None
        try:
            child = self._tools.children.take(self.sign.fd, reporter.start)
            heard = child if isinstance(child, Raised) else self._follow(child, request, reporter, job)
        except (ChildDiedError, TimeoutError, ValueError) as error:
            if self.sign.reason is None:
                return self._failed("stage_crashed", f"The stage's process {error}.", retryable=True)
        finally:
            if isinstance(child, Child):
                self._put_away(child, heard)
        if heard is None:
            return self._stopped()
        return heard if isinstance(heard, Done) else self._raised(heard)

    def _follow(self, child: Child, request: Request, reporter: Reporter, job: Job) -> Done | Raised | None:
        """Have the child run it and pass on what it says; None when told to stop."""
        latest = time.monotonic() + job.spec(job.stages[self.stage]).deadline + OVERTIME
        begun = time.monotonic()
        child.start(request)
        for heard in child.listen(self.sign.fd, lambda: TICK if reporter.telling else AT_FIRST):
            if time.monotonic() - begun >= AT_FIRST:
                reporter.start()
            match heard:
                case Advanced(fraction=fraction, message=message):
                    reporter.progress(fraction, message)
                case Said(line=line):
                    reporter.line(line)
                case Showed(data=data, size=size):
                    reporter.partial(data, size)
                case Done() | Raised():
                    return heard
                case Ready() | None:
                    pass
            if time.monotonic() > latest:
                self.sign.give("interrupted")
            if self.sign.reason is not None:
                break
        return None

    def _put_away(self, child: Child, heard: Done | Raised | None) -> None:
        """Keep a child only after a stage that ended by itself, left no process behind and did not exhaust it."""
        if heard is None or not heard.clean or (isinstance(heard, Raised) and heard.code == OUT_OF_MEMORY):
            child.kill()
        else:
            self._tools.children.give_back(child)

    def _request(self, folder: Path, job: Job) -> Request:
        """What the child is to run; it finds the files where they are for as long as this stage may take."""
        seconds = job.spec(job.stages[self.stage]).deadline + OVERTIME
        ledger = str(self._tools.paid.ledger(job.id))
        return request_of(job, self.stage, folder, lambda file: self._tools.store.locate(job.id, file, seconds), ledger)

    # -- the end

    def _finish(self, ending: Ending) -> None:
        """Report the end, and take back what was published if it does not count."""
        heard = deliver(self._tools.jobs, self.job, ending, hurried=lambda: self.sign.reason == "shutdown")
        failpoint("worker.reported")
        facts = {} if heard.counts else {"counts": heard.counts}  # None: nobody has answered
        if isinstance(ending, Failed):
            self._log.warning("stage over", outcome="failed", code=ending.code, why=ending.message, **facts)
        else:
            self._log.info("stage over", outcome=type(ending).__name__.lower(), **facts)
        if isinstance(ending, Succeeded) and heard.counts is False:
            self._tools.store.withdraw(self.job, self._folder)
        if isinstance(ending, Stopped) and ending.reason == "interrupted":
            self._tools.paid.stopped(self.job)
        if isinstance(ending, Succeeded) and heard.handed_on:
            self.following = StageRun(self._tools, self.job, *heard.handed_on, worker=ending.onward)
        if isinstance(ending, Succeeded) and heard.seq and self._job:
            self._tools.reuse.note(self._job, self.stage, heard.seq)

    def _count(self, ending: Ending, seconds: float) -> None:
        state = self._job.stages.get(self.stage) if self._job else None
        pipeline, spec = (self._job.pipeline, state.spec) if self._job and state else ("", "")
        STAGE_SECONDS.labels(pipeline, spec, type(ending).__name__.lower()).observe(seconds)

    def _stopped(self) -> Stopped:
        return Stopped(self.stage, self.token, self.sign.reason or "interrupted")

    def _failed(self, code: str, message: str, *, retryable: bool = False) -> Failed:
        return Failed(self.stage, self.token, code, message, retryable)

    def _raised(self, raised: Raised) -> Failed:
        if raised.details:
            self._log.warning("the stage raised", exception=raised.details)
        return self._failed(raised.code, raised.message, retryable=raised.retryable)
