"""Hosts that take one step at a time, can be frozen between any two of them, and never crash by themselves.

A crashed host and one that is frozen for good are the same to everybody else; one that is thawed later is the zombie
that every lease is about. So a freeze at a failpoint stands for both.
"""

from __future__ import annotations

import contextlib
import threading
from queue import Empty
from typing import Any

import pytest
from msgspec.structs import replace

from callsheet.actors import job_actor, performer
from callsheet.actors.committer import Committer
from callsheet.actors.journal import Journal, OutboxItem
from callsheet.actors.keys import PartitionKeys
from callsheet.actors.ownership import Ownership
from callsheet.actors.performer import Performer
from callsheet.actors.pool import Pool
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.tenants.admission import Admission
from callsheet.actors.tenants.limits import Tenants, limits_of
from callsheet.config.settings import Settings
from tests.actors.kit import POLICY, START
from tests.waiting import eventually

ANY_NUMBER = replace(limits_of(Settings()), active=0)  # of jobs at work: the model knows of no turns
STEPS = ("host.decided", "host.committed")
KEYS = PartitionKeys(0)
_hosts: dict[str, RehearsalHost] = {}


def _no_webhooks(*_: object) -> None:
    """What stands for the deliverer: these jobs have nobody to tell."""


class CrashError(BaseException):
    """The host ends here, in the thread that performs its effects."""


def failpoint(name: str) -> None:
    """In the place of the real one: stops a host where it was told to."""
    host = _hosts.get(threading.current_thread().name.partition("-")[0])
    if host is not None:
        host.passes(name)
    elif name in RehearsalHost.crash_at:
        raise CrashError(name)


def rehearse(patch: pytest.MonkeyPatch) -> None:
    """Have the failpoints in actors and performers lead here."""
    patch.setattr(job_actor, "failpoint", failpoint)
    patch.setattr(performer, "failpoint", failpoint)


class RehearsalHost:
    """The real ownership, actors, journal, scripts and effects of one partition under one epoch, on a lead."""

    crash_at: set[str] = set()  # what the thread that performs effects ends at

    def __init__(self, number: int, committer: Committer, client: Any, broker_url: str, store: FolderStore) -> None:
        self.name = f"host{number}"
        self.client = client
        client.delete(KEYS.lease)  # it ran out
        self.epoch = int(committer.run("lease", [KEYS.lease, KEYS.epoch], ["take", self.name, 60_000, 0]))
        self.pool = Pool(3, self.name)
        admission = Admission(client, Tenants(client, ANY_NUMBER), lambda: [KEYS])
        self.performer = Performer("unix:///nowhere", broker_url, store, _no_webhooks, admission, threads=0)
        self.performer._redis = client
        self.journal = Journal(committer, client, KEYS, self.epoch)
        self.owner = Ownership(
            0,
            self.journal,
            pool=self.pool,
            policy=POLICY,
            clock=lambda: START,
            perform=self.performer.perform,
            on_handled=self._handled,
        )
        self.owner.jitter = lambda: 0.0  # the model has no dice
        self.freeze_at = ""
        self.frozen = ""  # the job whose actor stands still
        self.received = 0
        self.handled = 0
        self._thaw = threading.Event()
        self._current = ""
        _hosts[self.name] = self

    def _handled(self) -> None:
        self.handled += 1

    def passes(self, name: str) -> None:
        """One of the pool's threads comes by a failpoint."""
        if name == self.freeze_at:
            self.freeze_at = ""
            self._thaw.clear()
            self.frozen = self._current
            assert self._thaw.wait(60), "nobody thawed this host"

    def next_entry(self) -> tuple[bytes, dict[bytes, bytes]] | None:
        """What it would read next."""
        found = self.client.xread({KEYS.mailbox: self.owner.cursor}, count=1)
        return found[0][1][0] if found else None

    def handle_next(self, freeze_at: str = "") -> bool:
        """Read one entry and handle it, or stand still on the way. False when there is none."""
        entry = self.next_entry()
        if entry is None:
            return False
        job = entry[1].get(b"job", b"").decode(errors="replace")
        self.received += 1
        if self.frozen:
            self.owner.receive(*entry)
            if job != self.frozen:
                eventually(lambda: self.handled == self.received - self._waiting())
            return True
        self._current, self.freeze_at = job, freeze_at
        self.owner.receive(*entry)
        eventually(lambda: self.frozen or self.handled == self.received)
        self.freeze_at = ""
        return True

    def _waiting(self) -> int:
        """How many messages wait behind the actor that stands still, itself included."""
        seat = self.owner._seats.get(self.frozen)
        return seat.pending if seat else 0

    def thaw(self) -> None:
        """Go on where it stood still, and handle what has piled up behind."""
        self.frozen = ""
        self._thaw.set()
        eventually(lambda: self.handled == self.received)

    def effects(self) -> list[OutboxItem]:
        """What it has in hand to perform, taken out."""
        items = []
        for queue in (self.performer._queue, self.performer._removals):
            with contextlib.suppress(Empty):
                while entry := queue.get_nowait():
                    items.append(entry[1])
        return items

    def end(self) -> None:
        """Forget it, with its threads."""
        self.owner.end()
        if self.frozen:
            self.thaw()
        self.pool.stop()
        self.performer.stop()
        del _hosts[self.name]
