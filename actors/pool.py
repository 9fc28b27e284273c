"""Pykka actors that share a pool of threads: an idle actor holds no thread, and each is drained by one at a time.

Pykka gives an actor a thread of its own. This subclass overrides the hooks that create the inbox and start the loop;
tests/actors/test_pool.py holds the contract with the pinned version. A message that comes in schedules a drain of the
actor on the pool, unless one is scheduled or under way already.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, cast

import pykka
import structlog
from pykka import ThreadingFuture

log = structlog.get_logger("host")
MAX_DRAIN = 64  # messages an actor handles before it lets others have the thread


class Pool:
    """A fixed number of daemon threads that run what is submitted, in order."""

    def __init__(self, threads: int, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have this run by one of the threads, after what was submitted before."""
        self._work.put(work)

    def stop(self, timeout: float = 5.0) -> None:
        """End the threads once what was submitted is done."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(timeout)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:  # a thread that ends is missed by every actor
                log.exception("work failed")


class _DrainedError(Exception):
    """The drain is over: nothing is in the inbox, or enough was taken for one turn."""


class _Inbox:
    """What Pykka asks of an inbox (`put`, `get`, `empty`), with a drain scheduled by the first message put in."""

    def __init__(self, schedule: Callable[[], None]) -> None:
        self._schedule = schedule
        self._envelopes: deque[Any] = deque()
        self._lock = threading.Lock()
        self._scheduled = False
        self._turn = 0

    def put(self, envelope: Any, /) -> None:
        with self._lock:
            self._envelopes.append(envelope)
            wake = not self._scheduled
            self._scheduled = True
        if wake:
            self._schedule()

    def get(self) -> Any:
        with self._lock:
            if not self._envelopes or self._turn >= MAX_DRAIN:
                raise _DrainedError
            self._turn += 1
            return self._envelopes.popleft()

    def empty(self) -> bool:
        with self._lock:
            return not self._envelopes

    def end_turn(self) -> None:
        """A drain ended: the next one is due when messages are left, else when the next one comes."""
        with self._lock:
            self._turn = 0
            again = self._scheduled = bool(self._envelopes)
        if again:
            self._schedule()


class PooledActor(pykka.Actor):
    """An actor drained by a Pool. Never `ask` another pooled actor from inside one: that would starve the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._set_up = False
        super().__init__()

    def _create_actor_inbox(self) -> _Inbox:  # type: ignore[override]  # Pykka's hook is static; ours needs the pool
        return _Inbox(lambda: self._pool.submit(self._drain))

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return ThreadingFuture()

    def _start_actor_loop(self) -> None:
        """Nothing to start: the first message schedules the first drain."""

    def _drain(self) -> None:
        if not self._set_up:
            self._set_up = True
            self._actor_loop_setup()
        try:
            self._actor_loop_running()
            self._actor_loop_teardown()  # of a long inbox, over several turns: the next one comes here at once
        except _DrainedError:
            pass
        finally:
            cast("_Inbox", self.actor_inbox).end_turn()
