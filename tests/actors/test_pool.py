"""The contract between the pooled actor and the pinned Pykka."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry

from callsheet.actors.pool import MAX_DRAIN, Pool, PooledActor
from tests.waiting import eventually


class Recorder(PooledActor):
    """Keeps what it is told, and notices when two threads are in it at once."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.got: list[Any] = []
        self.inside = threading.Lock()
        self.overlaps = 0
        self.hooks: list[str] = []

    def on_start(self) -> None:
        self.hooks.append("start")

    def on_stop(self) -> None:
        self.hooks.append("stop")

    def on_failure(self, *error: object) -> None:
        self.hooks.append("failure")

    def on_receive(self, message: Any) -> Any:
        if not self.inside.acquire(blocking=False):
            self.overlaps += 1
            return None
        try:
            self.got.append(message)
            if callable(message):
                return message()
            return message
        finally:
            self.inside.release()


class BoomError(Exception):
    pass


def explode() -> None:
    raise BoomError("on purpose")


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(4, "test")
    yield pool
    ActorRegistry.stop_all()
    pool.stop()


def start(pool: Pool) -> tuple[pykka.ActorRef[Recorder], Recorder]:
    ref = Recorder.start(pool)
    actor = ref._actor_weakref()
    assert actor is not None
    return ref, actor


def threads_of(pool: Pool) -> int:
    return sum(thread.is_alive() for thread in pool._threads)


def test_the_private_hooks_are_those_of_the_pinned_version() -> None:
    assert version("pykka").startswith("4.5.")
    hooks = {
        "_create_actor_inbox": [],
        "_create_future": [],
        "_start_actor_loop": ["self"],
        "_actor_loop_setup": ["self"],
        "_actor_loop_running": ["self"],
        "_actor_loop_teardown": ["self"],
    }
    found = {name: list(inspect.signature(getattr(pykka.Actor, name)).parameters) for name in hooks}
    assert found == hooks
    assert "self.actor_inbox.get()" in inspect.getsource(pykka.Actor._actor_loop_running)
    assert "self.actor_inbox.empty()" in inspect.getsource(pykka.Actor._actor_loop_teardown)


def test_thirty_thousand_messages_arrive_in_order_and_never_two_at_once(pool: Pool) -> None:
    actors = [start(pool) for _ in range(1_000)]

    def send(sender: int) -> None:
        for n in range(10):
            for ref, _ in actors:
                ref.tell((sender, n))

    senders = [threading.Thread(target=send, args=[s]) for s in range(3)]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join()
    for ref, actor in actors:
        ref.ask("last")  # answered after everything before it
        assert actor.got.pop() == "last"
        assert actor.overlaps == 0
        for sender in range(3):
            assert [n for s, n in actor.got if s == sender] == list(range(10))
        assert len(actor.got) == 30


def test_an_actor_with_a_long_inbox_lets_others_have_the_thread() -> None:
    pool = Pool(1, "single")
    (busy, first), (other, second) = start(pool), start(pool)
    gate = threading.Event()
    busy.tell(gate.wait)
    for n in range(MAX_DRAIN * 3):
        busy.tell(n)
    answer = other.ask(lambda: len(first.got), block=False)
    gate.set()
    assert answer.get(timeout=60) == MAX_DRAIN
    assert busy.ask("last", timeout=60) == "last"
    assert first.got[1:-1] == list(range(MAX_DRAIN * 3))
    assert second.overlaps == 0
    ActorRegistry.stop_all()
    pool.stop()


def test_an_exception_under_tell_stops_that_actor_only(pool: Pool) -> None:
    (one, first), (two, _) = start(pool), start(pool)
    one.tell(explode)
    eventually(lambda: not one.is_alive())
    eventually(lambda: first.hooks == ["start", "failure"])
    assert two.ask("alive?", timeout=60) == "alive?"
    with pytest.raises(ActorDeadError):
        one.tell("more")
    assert threads_of(pool) == 4


def test_an_exception_under_ask_goes_to_the_caller_and_the_actor_lives(pool: Pool) -> None:
    ref, _ = start(pool)
    with pytest.raises(BoomError, match="on purpose"):
        ref.ask(explode, timeout=60)
    assert ref.ask("alive?", timeout=60) == "alive?"


@pytest.mark.parametrize("waiting", [1, MAX_DRAIN - 1, MAX_DRAIN, MAX_DRAIN * 3])
def test_stop_runs_the_teardown_and_pending_asks_are_told(pool: Pool, waiting: int) -> None:
    ref, actor = start(pool)
    gate = threading.Event()
    ref.tell(gate.wait)
    stopped = ref.stop(block=False)
    pending = [ref.ask(n, block=False) for n in range(waiting)]
    gate.set()
    assert stopped.get(timeout=60) is True
    for answer in pending:
        with pytest.raises(ActorDeadError):
            answer.get(timeout=60)
    assert actor.hooks == ["start", "stop"]
    assert len(actor.got) == 1
    assert ref not in ActorRegistry.get_all()
    assert threads_of(pool) == 4


def test_what_is_asked_of_an_actor_while_it_stops_is_always_answered(pool: Pool) -> None:
    for _ in range(200):
        ref, _actor = start(pool)
        answers: list[pykka.Future[Any]] = []

        def ask(ref: pykka.ActorRef[Recorder] = ref, answers: list[pykka.Future[Any]] = answers) -> None:
            answers.extend(ref.ask(n, block=False) for n in range(20))

        asker = threading.Thread(target=ask)
        asker.start()
        ref.stop(block=False)
        asker.join()
        for n, answer in enumerate(answers):
            with contextlib.suppress(ActorDeadError):
                assert answer.get(timeout=60) == n


def test_an_idle_actor_costs_no_thread(pool: Pool) -> None:
    before = set(threading.enumerate())  # of others, too, which may end meanwhile
    refs = [start(pool)[0] for _ in range(500)]
    assert [ref.ask(1, timeout=60) for ref in refs] == [1] * 500
    assert set(threading.enumerate()) <= before


def test_work_that_raises_costs_no_thread(pool: Pool) -> None:
    for _ in range(20):
        pool.submit(explode)
    ref, _ = start(pool)
    assert ref.ask("alive?", timeout=60) == "alive?"
    assert threads_of(pool) == 4


def test_a_pool_stops_once_its_work_is_done() -> None:
    pool = Pool(2, "ending")
    done: list[int] = []

    def work(n: int) -> None:
        time.sleep(0.001)
        done.append(n)

    for n in range(10):
        pool.submit(partial(work, n))
    pool.stop()
    assert (sorted(done), threads_of(pool)) == (list(range(10)), 0)
