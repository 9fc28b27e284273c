"""One partition, owned under one epoch: its actors, how far its mailbox is read, and what is still under way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pykka
import structlog

from callsheet.actors.committer import JournalDownError
from callsheet.actors.job_actor import JobActor
from callsheet.actors.journal import Delivery, Journal, LostOwnershipError, OutboxItem
from callsheet.actors.keys import partition_of
from callsheet.actors.pool import Pool
from callsheet.actors.telemetry.metrics import LEASES
from callsheet.jobs.draft import Policy
from callsheet.jobs.messages import Undecodable, decode_message

log = structlog.get_logger("host")
RESTING_SECONDS = 1.0


class _Seat:
    """An actor in memory, how many messages are on their way to it, when it was last busy, and whether it rests."""

    __slots__ = ("busy_at", "pending", "ref", "resting")

    def __init__(self, ref: pykka.ActorRef[JobActor]) -> None:
        self.ref = ref
        self.pending = 0
        self.resting = False
        self.busy_at = time.monotonic()


class Ownership:
    """Hands messages to the actors of a partition, and retires those that rest. Lost once, it is lost for good."""

    def __init__(
        self,
        number: int,
        journal: Journal,
        *,
        pool: Pool,
        policy: Policy,
        clock: Callable[[], int],
        perform: Callable[[Ownership, OutboxItem], None],
        on_handled: Callable[[], None],
    ) -> None:
        self.number = number
        self.journal = journal
        self.policy = policy
        self.now = clock
        self.jitter = random.random
        self.cursor = b"0-0"
        self.draining = False
        self.generation = ""  # the life of the broker that was offered every dispatch of this partition
        self._pool = pool
        self._perform = perform
        self._on_handled = on_handled
        self._seats: dict[str, _Seat] = {}
        self._in_flight = 0
        self._lock = threading.Lock()
        self._lost = False

    @property
    def lost(self) -> bool:
        """Nothing may be done in this partition's name any more."""
        return self._lost

    @property
    def in_flight(self) -> int:
        """Messages handed over and not yet handled."""
        return self._in_flight

    def end(self) -> bool:
        """Stop acting as the owner. Unhandled messages stay in the mailbox for the next one. False if it was over."""
        with self._lock:
            first, self._lost = not self._lost, True
            for job in [j for j, s in self._seats.items() if s.pending == 0]:  # the others go when they are done
                self._retire(job)
        return first

    def lose(self, why: str) -> None:
        """Stop acting as the owner, since it turned out that this host is not, or cannot tell."""
        if self.end():
            LEASES.labels("lost").inc()
            log.warning("partition lost", partition=self.number, epoch=self.journal.epoch, why=why)

    def perform(self, items: list[OutboxItem]) -> None:
        """Have effects performed that a commit has put into the outbox."""
        for item in items:
            self._perform(self, item)

    def receive(self, entry: bytes, fields: dict[bytes, bytes]) -> None:
        """Hand an entry of the mailbox to the actor of its job."""
        self.cursor = entry
        try:
            job = fields[b"job"].decode()
            message = decode_message(fields[b"body"])
            partition_of(job, 1)
        except (Undecodable, KeyError, ValueError) as error:
            self._set_aside(entry, fields, f"cannot be decoded: {error}")
            self._on_handled()
            return
        delivery = Delivery(entry, job, fields.get(b"mid", b""), fields.get(b"reply", b""), message)
        with self._lock:
            if not self._lost:  # else it stays in the mailbox, for the next owner
                seat = self._seats.get(job) or self._seat(job)
                seat.pending += 1
                self._in_flight += 1
                seat.ref.tell(delivery)
                return
        self._on_handled()

    def handled(self, job: str, resting: bool) -> None:
        """The actor of a job is done with one message. One that rests is let go soon, and not at once: who asks a
        finished job for something often asks again."""
        with self._lock:
            seat = self._seats[job]
            seat.pending -= 1
            self._in_flight -= 1
            seat.busy_at, seat.resting = time.monotonic(), resting
            if seat.pending == 0 and self._lost:
                self._retire(job)
        self._on_handled()

    def retire_idle(self, seconds: float) -> None:
        """Let go of the actors that had nothing to do for so long: the next message loads them again."""
        now = time.monotonic()
        limits = {False: now - seconds, True: now - min(seconds, RESTING_SECONDS)}
        with self._lock:
            for job in [j for j, s in self._seats.items() if s.pending == 0 and s.busy_at <= limits[s.resting]]:
                self._retire(job)

    def _seat(self, job: str) -> _Seat:
        seat = self._seats[job] = _Seat(JobActor.start(self._pool, self, job))
        return seat

    def _retire(self, job: str) -> None:
        self._seats.pop(job).ref.stop(block=False)

    def _set_aside(self, entry: bytes, fields: dict[bytes, bytes], why: str) -> None:
        log.error("message set aside", partition=self.number, why=why)
        try:
            self.journal.set_aside(entry, fields, why)
        except (LostOwnershipError, JournalDownError) as error:
            self.lose(str(error))
