"""The host: a process that owns partitions and runs the actors of their jobs.

Five loops, a thread each: `tend` takes, renews and hands over partitions; `read` hands messages to actors; `fire`
turns due timers into messages; `care` retires idle actors and looks after effects that an earlier owner left, that
failed, or that an emptied broker has lost; `sweep` removes files that belong to nobody. When anything is in doubt
(fenced, Redis away) a partition is lost and taken again from what is stored: there is one way to recover.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import structlog

from callsheet.actors import performer as performing
from callsheet.actors.clock import wall_clock
from callsheet.actors.committer import Committer, JournalDownError, connect
from callsheet.actors.errors import StoreAway
from callsheet.actors.failpoints import configure, failpoint
from callsheet.actors.journal import Journal
from callsheet.actors.keys import partition_of
from callsheet.actors.leases import Held, Leases
from callsheet.actors.outage import Outage
from callsheet.actors.ownership import Ownership
from callsheet.actors.pool import Pool
from callsheet.actors.scripts import Call, Script
from callsheet.actors.stores.charged import open_charged_store
from callsheet.actors.stores.store import ORPHAN_SECONDS
from callsheet.actors.stores.uploads import open_uploads
from callsheet.actors.telemetry.board import Board
from callsheet.actors.telemetry.metrics import BACKLOG, LEASES, OWNED
from callsheet.actors.telemetry.tracing import start_tracing, stop_tracing
from callsheet.actors.tenants.admission import Admission
from callsheet.actors.tenants.limits import Tenants, limits_of
from callsheet.actors.webhooks.deliverer import Deliverer
from callsheet.actors.webhooks.post import Poster
from callsheet.actors.wire import REDIS_AWAY
from callsheet.config.process import settle
from callsheet.config.settings import Settings
from callsheet.jobs.draft import Policy

log = structlog.get_logger("host")
READ_BLOCK_MS = 200
READ_COUNT = 200  # of a mailbox, and of all of them no more than the host may hold
FIRE_SECONDS = 0.2
FIRE_COUNT = 200
CARE_SECONDS = 0.5
SWEEP_SECONDS = 60.0
ASK_AT_ONCE = 1000  # whether there are jobs to these files: asked one by one, 100,000 that are kept take for ever
DRAIN_SECONDS = 2.0  # for the webhooks under way: what is cut off is sent twice


def policy_of(settings: Settings) -> Policy:
    """The times that the rules work with."""
    return Policy(
        lost_after=int(settings.worker_lost_after_seconds * 1000),
        cancel_grace=int(settings.cancel_grace_seconds * 1000),
        retention=int(settings.retention_seconds * 1000),
        tombstone=int(settings.tombstone_seconds * 1000),
        webhook_delays=tuple(int(seconds * 1000) for seconds in settings.webhook_retry_seconds),
    )


class Host:
    """Owns partitions until it is stopped."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = wall_clock) -> None:
        self._settings = settings
        self._clock = clock
        self._policy = policy_of(settings)
        self._redis = connect(settings.journal)
        self._committer = Committer(settings.journal)
        self._pool = Pool(settings.host_pool_threads, "jobs")
        self._store = open_charged_store(settings)
        self._uploads = open_uploads(settings)
        poster = Poster(settings.webhook_timeout_seconds, settings.allowed_addresses)
        self._deliverer = Deliverer(self._redis, poster)
        self.leases = Leases(self._redis, settings.lease_seconds, settings.partitions)
        self._fire_script = Script(self._redis, "fire")
        admission = Admission(self._redis, Tenants(self._redis, limits_of(settings)), lambda: self.leases.keys)
        self._performer = performing.Performer(
            settings.journal, settings.broker, self._store, self._deliverer.take, admission
        )
        self.owned: dict[int, Ownership] = {}
        OWNED.set_function(lambda: len(self.owned))
        BACKLOG.set_function(lambda: self._deliverer.backlog)
        self._room = threading.Condition()
        self._in_hand = 0
        self._joined = False  # the hosts of this journal
        self._outage = Outage("the journal or the broker is away: effects wait", "effects go on")
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the loops; partitions are taken as they come free."""
        tend_every = self._settings.lease_seconds / 4
        self._spawn("tend", self._tend, tend_every)
        self._spawn("read", self._read, 0.0)
        self._spawn("fire", self._fire, FIRE_SECONDS)
        self._spawn("care", self._care, CARE_SECONDS)
        self._spawn("sweep", self._sweep, SWEEP_SECONDS)

    def stop(self) -> None:
        """Finish what is in hand, let the partitions go, end the threads. A step that fails keeps no other from it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(READ_BLOCK_MS / 1000 + 5)
        steps: tuple[Callable[[], None], ...] = (
            lambda: self._deliverer.drain(DRAIN_SECONDS),
            lambda: self._hand_over(list(self.owned.values())),
            self._leave,
            self._pool.stop,
            self._performer.stop,
            self._deliverer.stop,
            self._committer.stop,
            self._redis.close,
        )
        for step in steps:
            try:
                step()
            except Exception:  # what is left undone by it, the next owner finds
                log.exception("the host did not stop cleanly")

    def _leave(self) -> None:
        try:
            self.leases.leave()
        except REDIS_AWAY:
            log.warning("left without saying goodbye: the journal is away")

    # -- the loops

    def _spawn(self, name: str, step: Callable[[], None], every: float) -> None:
        def loop() -> None:
            while not self._stopping.is_set():
                try:
                    step()
                    self._stopping.wait(every)
                except (*REDIS_AWAY, JournalDownError) as error:
                    self._journal_away(str(error))
                    self._stopping.wait(0.5)
                except Exception:  # a bug here must not leave the partitions without an owner
                    log.exception("host loop failed", loop=name)
                    self._stopping.wait(1.0)

        thread = threading.Thread(target=loop, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tend(self) -> None:
        """Renew what is owned, drop what is lost, then take or hand over until the share is fair."""
        if not self.leases.keys:
            self.leases.fix_partitions()
        share, before = self.leases.fair_share(), set(self.owned)
        for owned in [owned for owned in list(self.owned.values()) if owned.lost]:
            del self.owned[owned.number]
        held = list(self.owned.values())
        for owned, kept in zip(held, self.leases.renew(map(_held, held)), strict=True):
            if not kept:
                owned.lose("the lease is another host's")
        self._take_up_to(share)
        self._hand_over(list(self.owned.values())[share:])
        if before != set(self.owned):
            log.info("partitions owned", count=len(self.owned), of=len(self.leases.keys))
        if not self._joined:
            self._joined = True
            log.info("host ready", host=self.leases.host)

    def _read(self) -> None:
        owned_now = list(self.owned.values())  # in one step: another thread changes it
        streams = {o.journal.keys.mailbox: o for o in owned_now if not o.lost and not o.draining}
        if not streams or not self._wait_for_room():
            self._stopping.wait(0.05)
            return
        cursors = {name: owned.cursor for name, owned in streams.items()}
        each = max(1, min(READ_COUNT, self._settings.host_capacity // len(streams)))
        for name, entries in self._redis.xread(cursors, count=each, block=READ_BLOCK_MS) or []:
            owned = streams[name.decode()]
            for entry, fields in entries:
                failpoint("host.read")
                with self._room:
                    self._in_hand += 1
                owned.receive(entry, fields)

    def _fire(self) -> None:
        firing = [owned for owned in list(self.owned.values()) if not owned.lost and not owned.draining]
        for owned, answer in zip(firing, self._fire_script.run_all(map(_firing, firing)), strict=True):
            if answer == b"FENCED":
                owned.lose("FENCED")

    def _care(self) -> None:
        for owned in list(self.owned.values()):
            owned.retire_idle(self._settings.idle_seconds)
        try:
            self._performer.retry_due()
            self._performer.look_after([owned for owned in list(self.owned.values()) if not owned.lost])
        except performing.TROUBLE as error:
            self._outage.goes_on(error)
        else:
            self._outage.is_over()

    def _sweep(self) -> None:
        """Remove files that belong to no job: an upload whose submission never reached a mailbox. But what is older
        than the journal may belong to the jobs of another one: this one may be empty by mistake."""
        try:
            self._store.sweep(ORPHAN_SECONDS)
            self._uploads.sweep()
            old = self._store.orphans(ORPHAN_SECONDS, self.leases.born())
            for start in range(0, len(old), ASK_AT_ONCE):
                for job in self._nobodys(old[start : start + ASK_AT_ONCE]):
                    if self._nobodys([job]):  # still: it may have been submitted again while others were removed
                        log.info("files without a job removed", job=job)
                        self._store.remove_job(job)
        except (OSError, StoreAway) as error:  # trouble with the store is none with the journal
            log.warning("files not swept", why=str(error))

    def _nobodys(self, jobs: list[str]) -> list[str]:
        """Those jobs of this host's partitions that neither exist nor are about to."""
        keys, owned = self.leases.keys, set(self.owned)
        mine = [job for job in jobs if keys and partition_of(job, len(keys)) in owned]
        pipe = self._redis.pipeline(transaction=False)
        for job in mine:
            of_job = keys[partition_of(job, len(keys))]
            pipe.exists(of_job.snapshot(job), of_job.receipt(job))
        return [job for job, found in zip(mine, pipe.execute(), strict=True) if not found]

    # -- partitions

    def _take_up_to(self, share: int) -> None:
        free = [number for number in range(len(self.leases.keys)) if number not in self.owned]
        while free and (room := share - len(self.owned)) > 0:
            some, free = free[:room], free[room:]
            for number, epoch in zip(some, self.leases.take(some), strict=True):
                if epoch:
                    self._own(number, epoch)

    def _own(self, number: int, epoch: int) -> None:
        journal = Journal(self._committer, self._redis, self.leases.keys[number], epoch)
        owned = Ownership(
            number,
            journal,
            pool=self._pool,
            policy=self._policy,
            clock=self._clock,
            perform=self._performer.perform,
            on_handled=self._handled,
        )
        self.owned[number] = owned
        LEASES.labels("taken").inc()
        log.debug("partition taken", partition=number, epoch=epoch)

    def _hand_over(self, going: list[Ownership]) -> None:
        """Read no more of these, finish what is in hand, then release them. The leases of the others must not run out
        meanwhile; what is not finished in time stays in the mailbox.
        """
        for owned in going:
            owned.draining = True
        with self._room:
            self._room.wait_for(
                lambda: not any(owned.in_flight and not owned.lost for owned in going),
                timeout=self._settings.lease_seconds / 2,
            )
        for owned in going:
            self.owned.pop(owned.number, None)
        ended = [owned for owned in going if owned.end()]
        try:
            self.leases.release(map(_held, ended))
        except REDIS_AWAY:
            log.warning("not released: the journal is away", partitions=[owned.number for owned in ended])
            return
        for owned in ended:
            LEASES.labels("released").inc()
            log.debug("partition handed over", partition=owned.number)

    def _journal_away(self, why: str) -> None:
        for owned in list(self.owned.values()):
            owned.lose(why)

    # -- the bound on what is in memory

    def _wait_for_room(self) -> bool:
        with self._room:
            return self._room.wait_for(lambda: self._in_hand < self._settings.host_capacity, timeout=0.5)

    def _handled(self) -> None:
        with self._room:
            self._in_hand -= 1
            self._room.notify_all()


def _held(owned: Ownership) -> Held:
    return owned.number, owned.journal.epoch


def _firing(owned: Ownership) -> Call:
    keys = owned.journal.keys
    return [keys.epoch, keys.timers, keys.tokens, keys.mailbox], [owned.journal.epoch, FIRE_COUNT]


def run_host(settings: Settings) -> None:
    """Run a host until SIGTERM or SIGINT."""
    configure(settings.failpoints)
    start_tracing(settings, "host")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    host = Host(settings)
    host.start()
    board = Board(settings.broker, "host").start()
    settle()
    stop.wait()
    host.stop()
    board.stop()
    stop_tracing()
    log.info("host stopped")
