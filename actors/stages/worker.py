"""A worker: takes dispatches from its queues and runs the stages, each in a child process. `run_worker` wires it."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable

import dramatiq
import redis
import structlog

from callsheet.actors import failpoints
from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.broker import Broker, declare, dispatch, make_broker
from callsheet.actors.failpoints import failpoint
from callsheet.actors.stages.child import ChildDiedError, Children, ChildSpec
from callsheet.actors.stages.child_wire import Setup
from callsheet.actors.stages.interrupts import Interrupts
from callsheet.actors.stages.paid import BUYING_QUEUE, PaidSteps, provider_settings
from callsheet.actors.stages.reuse import Reuse
from callsheet.actors.stages.run import Reason, StageRun, Tools
from callsheet.actors.stages.work_folders import WorkFolders
from callsheet.actors.stores.charged import open_charged_store
from callsheet.actors.telemetry.board import Board
from callsheet.actors.telemetry.metrics import STAGE_SLOTS, STAGES_NOW
from callsheet.actors.telemetry.tracing import start_tracing, stop_tracing
from callsheet.config.settings import TEST_PREFIX, Settings, SettingsError, environment

log = structlog.get_logger("worker")
# The longest wait of an idle thread. What watches the queue of delayed messages, where never is one, speaks that often
# for a worker all of whose slots are taken, and which fetches nothing: without it, what runs would be delivered again.
LOOK_AGAIN_MS = 500
SWEEP_SECONDS = 5.0
STOP_SECONDS = 6.0
LEDGER_SECONDS = 60.0  # that a stage's outputs wait for the journal, to be counted
GIB = 1 << 30
# A child gets these and nothing else: no address, no password, no token. Proxies are left out, they may hold one.
KEPT = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE"})
KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", TEST_PREFIX)  # the last: how tests find all descendants of a process


def run_worker(settings: Settings, queues: Iterable[str]) -> None:
    """Run stages of these queues until SIGTERM or SIGINT. Raises SettingsError."""
    failpoints.configure(settings.failpoints)
    start_tracing(settings, "worker")
    slots = {queue: count for queue in queues if (count := getattr(settings, f"{queue}_concurrency"))}
    if not slots:
        raise SettingsError("this worker has nothing to do: no queue with a concurrency above 0")
    stop = _stop_signals()
    jobs = BlockingJobs(settings.journal, partitions=settings.partitions)
    folders = WorkFolders(settings.data / "work")
    folders.sweep()
    store = open_charged_store(settings, patience=LEDGER_SECONDS)
    paid = PaidSteps(settings, jobs)
    paid.sweep()
    reuse = Reuse(settings, jobs, store)
    running = Running()
    interrupts = Interrupts(settings.journal, running.interrupt)
    lanes = []
    for queue, count in slots.items():
        children = Children(_child_spec(settings, queue, count))
        names = _names(f"{folders.name}-{queue}")
        tools = Tools(jobs, store, children, folders, settings.heartbeat_seconds, names, paid, reuse)
        lanes.append(Lane(make_broker(settings.broker), queue, count, tools, running))
    for lane in lanes:
        lane.start()
    board = Board(settings.broker, "worker").start()
    log.info("ready", **slots, worker=folders.name)
    while not stop.wait(SWEEP_SECONDS):
        folders.sweep()
    began = time.monotonic()
    _stop(lanes, running)
    interrupts.close()
    folders.close()
    reuse.close()
    jobs.close()
    board.stop()
    stop_tracing()
    log.info("stopped", seconds=round(time.monotonic() - began, 2))


class Running:
    """The runs of this process, by what they run."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, int], StageRun] = {}
        self._lock = threading.Lock()
        self.stopping = False

    def add(self, run: StageRun) -> bool:
        """Note a run; False if it must not begin, because the worker stops or runs that dispatch already."""
        key = (run.job, run.stage, run.token)
        with self._lock:
            if self.stopping or key in self._runs:
                return False
            self._runs[key] = run
            return True

    def remove(self, run: StageRun) -> None:
        """It is over."""
        with self._lock:
            self._runs.pop((run.job, run.stage, run.token), None)

    def interrupt(self, job: str, stage: str, token: int, reason: Reason = "interrupted") -> None:
        """Stop a run, if it is one of ours."""
        with self._lock:
            run = self._runs.get((job, stage, token))
        if run is not None:
            run.sign.give(reason)

    def stop(self) -> None:
        """Stop all runs, and begin none from now on."""
        with self._lock:
            self.stopping = True
            runs = list(self._runs.values())
        for run in runs:
            run.sign.give("shutdown")


class Lane:
    """One queue with its own concurrency: a Dramatiq worker with a broker of its own, and its stage children."""

    def __init__(self, broker: Broker, queue: str, slots: int, tools: Tools, running: Running) -> None:
        self._broker, self._queue, self._tools, self._running = broker, queue, tools, running
        self._now = STAGES_NOW.labels(queue)
        STAGE_SLOTS.labels(queue).set(slots)
        declare(broker, queue, self._run_stage)
        self._worker = dramatiq.Worker(broker, queues={queue}, worker_threads=slots, worker_timeout=LOOK_AGAIN_MS)
        # What runs counts: nothing is fetched that could not begin at once, and so wait here behind a long stage.
        self._worker.queue_prefetch = slots

    def start(self) -> None:
        """Take dispatches, once a stage child is ready. Raises SettingsError if none can be had."""
        try:
            refusal = self._tools.children.warm_up()
        except (ChildDiedError, TimeoutError) as error:
            raise SettingsError(f"the stage process {error}") from None
        if refusal is not None:
            raise SettingsError(f"CALLSHEET_PIPELINES: {refusal.message}")
        self._worker.start()

    def _run_stage(self, job: str, stage: str, token: int) -> None:
        """Called by Dramatiq, in one of its threads. When this returns or raises, the message is gone."""
        failpoint("worker.received")
        try:
            if self._run(job, stage, token):
                return
        except Exception:  # if it was not claimed yet, nobody else would ever offer it again
            log.exception("a dispatch goes back", job=job, stage=stage, token=token)
            time.sleep(1.0)
        self._offer_again(job, stage, token)

    def _run(self, job: str, stage: str, token: int) -> bool:
        """Run a stage, and then what is handed on to this worker; False if the stage must be offered again."""
        run = StageRun(self._tools, job, stage, token)
        if not self._running.add(run):
            run.sign.close()
            return not self._running.stopping  # a second delivery of what runs here is done with
        ran = self._through(run)
        while (following := run.following) is not None:
            run = following
            if not self._running.add(run):
                run.sign.give("shutdown")  # it goes back to its owner, without having run
            self._through(run)
        return ran

    def _through(self, run: StageRun) -> bool:
        try:
            with self._now.track_inprogress():
                return run.run()
        finally:
            self._running.remove(run)

    def _offer_again(self, job: str, stage: str, token: int) -> None:
        """Put it back for others, however long the broker is away: once this returns, its message is acknowledged. If
        the worker ends meanwhile it is not, and comes back by itself.
        """
        while True:
            try:
                return dispatch(self._broker, job, stage, token, self._queue)
            except redis.RedisError as error:
                log.warning("a dispatch waits to go back", job=job, stage=stage, why=str(error))
                time.sleep(1.0)

    def take_nothing_more(self) -> None:
        """What was fetched and did not begin goes back to the queue when the lane stops."""
        for thread in self._worker.workers:
            thread.stop()
        for consumer in self._worker.consumers.values():
            consumer.stop()

    def stop(self) -> None:
        """Wait for the runs to end (they have been told to) and end the children."""
        self._worker.stop(timeout=int(STOP_SECONDS * 1000))
        self._tools.children.close()
        self._broker.close()


def _stop(lanes: list[Lane], running: Running) -> None:
    threads = [threading.Thread(target=lane.stop, daemon=True) for lane in lanes]
    for lane in lanes:
        lane.take_nothing_more()
    running.stop()
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _names(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers)}"


def _stop_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _child_spec(settings: Settings, queue: str, slots: int) -> ChildSpec:
    threads = max(1, len(os.sched_getaffinity(0)) // slots)
    kept = {n: v for n, v in environment().items() if n in KEPT or n.startswith(KEPT_PREFIXES)}
    providers = provider_settings(settings)
    setup = Setup(
        pipelines=settings.pipelines,
        models=str(settings.models),
        memory=int(settings.stage_memory_bytes),
        file_size=max(8 * GIB, 16 * int(settings.max_upload_bytes)),
        max_upload=int(settings.max_upload_bytes),
        max_seconds=settings.max_duration_seconds,
        max_pixels=settings.max_pixels,
        threads=threads,
        addresses=settings.allowed_addresses,
        providers=providers if queue == BUYING_QUEUE else providers.without_keys(),
    )
    return ChildSpec(setup, {**kept, "OMP_NUM_THREADS": str(threads)}, retire_at=int(settings.stage_memory_bytes) // 2)
