"""Performs what the outbox holds: one short function an effect. Every effect may be performed more than once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import assert_never

import redis
import structlog
from dramatiq.errors import BrokerError

from callsheet.actors import broker as work
from callsheet.actors.committer import JournalDownError, connect
from callsheet.actors.errors import Unavailable
from callsheet.actors.failpoints import failpoint
from callsheet.actors.journal import OutboxItem
from callsheet.actors.keys import INTERRUPTS
from callsheet.actors.ownership import Ownership
from callsheet.actors.stores.store import ArtifactStore
from callsheet.actors.tenants.admission import Admission, Entry
from callsheet.actors.wire import REDIS_AWAY
from callsheet.jobs.effects import Deliver, Dispatch, Interrupt, KeepSecret, RemoveFiles, Tidy, decode_effect
from callsheet.jobs.messages import FilesRemoved, Undecodable

log = structlog.get_logger("host")
RETRY_SECONDS = 1.0
STOP_SECONDS = 5.0
FAILED_SECONDS = 30.0  # after an error that nobody expected
TROUBLE = (*REDIS_AWAY, BrokerError, Unavailable)  # an effect is tried again after it


_Queue = SimpleQueue[tuple[Ownership, OutboxItem] | None]


class Performer:
    """A few threads that take effects in the order in which they were committed. Those that remove files have threads
    of their own: a store that is slow, or a thousand jobs that expire together, hold up no stage. `deliver` takes
    webhooks off them: a receiver is slow for as long as it likes.
    """

    def __init__(
        self,
        redis_url: str,
        broker_url: str,
        store: ArtifactStore,
        deliver: Callable[[Ownership, OutboxItem, Deliver], None],
        admission: Admission,
        *,
        threads: int = 4,
    ) -> None:
        self._redis = connect(redis_url)
        self._broker = work.make_broker(broker_url)
        self._store = store
        self._deliver = deliver
        self._admission = admission
        self._queue, self._removals = _Queue(), _Queue()
        self._later: list[tuple[float, Ownership, OutboxItem]] = []
        self._lock = threading.Lock()
        self._generation = ""
        self._away_until = 0.0  # the broker has just failed: no other dispatch is tried, and complained of, before that
        self._threads = [
            threading.Thread(target=self._loop, args=[queue], name=f"performer-{name}-{n}", daemon=True)
            for name, queue in (("all", self._queue), ("files", self._removals))
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def perform(self, owner: Ownership, item: OutboxItem) -> None:
        """Have an effect performed soon, by another thread."""
        queue = self._removals if isinstance(item.effect, Tidy | RemoveFiles) else self._queue
        queue.put((owner, item))

    def look_after(self, owners: list[Ownership]) -> None:
        """For each that was not seen to since it was taken, or since one of the servers began anew: perform what an
        earlier owner left, and offer again the dispatches that may be lost. Raises one of TROUBLE.
        """
        self._generation = generation = self._find_generation()
        for owner in owners:
            if owner.generation != generation:
                self._resume(owner, generation)
                owner.generation = generation

    def _resume(self, owner: Ownership, generation: str) -> None:
        if owner.generation:
            log.warning("the broker or the journal began anew: offering dispatches again", partition=owner.number)
        keys = owner.journal.keys
        # In this order: what is performed meanwhile moves from the first to the second.
        left = self._redis.hgetall(keys.outbox)
        offered = self._redis.hgetall(keys.dispatched)
        lost = {k: v.partition(b" ")[2] for k, v in offered.items() if v.partition(b" ")[0] != generation.encode()}
        for effect_id, raw in {**left, **lost}.items():
            job = effect_id.decode().partition("|")[0]
            try:
                self.perform(owner, OutboxItem(effect_id.decode(), job, decode_effect(raw)))
            except Undecodable:  # it stays where it is, in plain sight; the others go on
                log.exception("effect cannot be read", job=job)

    def _find_generation(self) -> str:
        """The lives of the broker and of the journal: a broker that was emptied has lost what it was offered, a journal
        that was started again may have lost the claim of what a worker took.
        """
        if not (generation := work.generation(self._broker)):
            raise redis.RedisError("the broker was emptied at this very moment")
        return f"{generation}.{work.life(self._redis)}"

    def retry_due(self) -> None:
        """Take up again what failed a while ago. Raises one of TROUBLE."""
        now = time.monotonic()
        with self._lock:
            due = [entry for entry in self._later if entry[0] <= now]
            self._later = [entry for entry in self._later if entry[0] > now]
        for _, owner, item in due:
            self.perform(owner, item)
        for entries in self._admission.due():
            self._perform_all(entries)

    def _perform_all(self, entries: list[Entry]) -> None:
        for owner, item in entries:
            self.perform(owner, item)

    def stop(self) -> None:
        """End the threads once what was asked for is done."""
        for _ in self._threads:
            self._queue.put(None)
            self._removals.put(None)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._broker.close()
        self._redis.close()

    def _loop(self, queue: _Queue) -> None:
        while (entry := queue.get()) is not None:
            owner, item = entry
            if owner.lost:
                continue  # the next owner finds it in the outbox
            dispatch = isinstance(item.effect, Dispatch)
            if dispatch and time.monotonic() < self._away_until:
                self._put_off(RETRY_SECONDS, owner, item)
                continue
            try:
                self._perform(owner, item)
            except JournalDownError as error:
                owner.lose(str(error))
            except TROUBLE as error:
                log.warning("effect put off", effect=type(item.effect).__name__, job=item.job, why=str(error))
                self._away_until = time.monotonic() + RETRY_SECONDS if dispatch else self._away_until
                self._put_off(RETRY_SECONDS, owner, item)
            except Exception:  # a bug in one effect ends neither the thread nor the effect
                log.exception("effect failed", effect=type(item.effect).__name__, job=item.job)
                self._put_off(FAILED_SECONDS, owner, item)

    def _put_off(self, seconds: float, owner: Ownership, item: OutboxItem) -> None:
        with self._lock:
            self._later.append((time.monotonic() + seconds, owner, item))

    def _perform(self, owner: Ownership, item: OutboxItem) -> None:
        generation = ""
        match item.effect:
            case Dispatch() as effect:
                if not self._admission.admits(owner, item):
                    return  # it is not its job's turn; it stays in the outbox
                generation = self._generation or self._find_generation()
                work.dispatch(self._broker, item.job, effect.stage, effect.token, effect.queue)
            case Interrupt(stage=stage, token=token):
                self._redis.publish(INTERRUPTS, f"{item.job} {stage} {token}")
            case Tidy(keep=keep, before=before):
                self._perform_all(self._admission.ended(item, before))
                self._store.tidy(item.job, keep, before)
            case RemoveFiles():
                self._store.remove_job(item.job)
                self._redis.delete(owner.journal.keys.callback_secret(item.job))
                owner.journal.post(item.job, FilesRemoved())
            case Deliver() as effect:
                self._deliver(owner, item, effect)
                return  # it is performed when the job knows what came of it
            case KeepSecret():
                self._redis.persist(owner.journal.keys.callback_secret(item.job))
            case _:
                assert_never(item.effect)
        failpoint("host.performed")
        owner.journal.performed(item, generation)
        failpoint("host.marked")
