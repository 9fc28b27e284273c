"""Group commit against a real server: the right answer for each caller, and what happens when the server has none."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from callsheet.actors import committer as committing
from callsheet.actors.committer import Committer, JournalDownError
from callsheet.actors.keys import PartitionKeys
from callsheet.actors.wire import MAX_MAILBOX
from tests.actors.kit import everything
from tests.servers import RedisServer
from tests.waiting import eventually

KEYS = PartitionKeys(0)


@pytest.fixture
def committer(redis_url: str) -> Iterator[Committer]:
    committer = Committer(redis_url)
    yield committer
    committer.stop()


def send(committer: Committer, mid: str, body: bytes = b"{}", receipt: bytes = b"") -> Any:
    keys = [KEYS.mailbox, KEYS.receipt("j"), KEYS.callback_secret("j"), KEYS.index("t"), KEYS.snapshot("j")]
    return committer.run("send", keys, [MAX_MAILBOX, "j", mid, body, "", receipt, ""])


def take(committer: Committer, number: int, host: str) -> int:
    keys = PartitionKeys(number)
    return int(committer.run("lease", [keys.lease, keys.epoch], ["take", host, 60_000, 0]))


def test_each_caller_gets_the_answer_to_its_own_call(committer: Committer, journal_server: RedisServer) -> None:
    def call(n: int) -> bool:
        entry = send(committer, f"m{n}")
        with journal_server.client() as client:
            ((_, fields),) = client.xrange(KEYS.mailbox, entry, entry)
            return bool(fields[b"mid"] == f"m{n}".encode())

    with ThreadPoolExecutor(32) as callers:
        assert all(callers.map(call, range(600)))


def test_calls_that_come_together_travel_together(
    committer: Committer, journal_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are under way while the server says nothing; of all the others, who wait, as many as may go together do."""
    sizes: list[int] = []
    pipeline = Committer._pipeline

    def counted(self: Committer, connection: Any, batch: list[Any], *how: Any) -> list[Any]:
        sizes.append(len(batch))
        return pipeline(self, connection, batch, *how)

    monkeypatch.setattr(Committer, "_pipeline", counted)
    monkeypatch.setattr(committing, "MAX_BATCH", 40)
    send(committer, "first")  # the server knows the script by it
    sizes.clear()
    journal_server.pause()
    with ThreadPoolExecutor(64) as callers:
        try:
            answers = [callers.submit(send, committer, f"m{n}") for n in range(64)]
            eventually(lambda: len(committer._line) == 62)
        finally:
            journal_server.resume()
        assert len({answer.result(60) for answer in answers}) == 64
    # Whoever of the first two is answered late may have taken one of the others along by itself.
    assert sorted(sizes) in ([1, 1, 22, 40], [1, 1, 1, 21, 40])


def test_flushed_scripts_are_loaded_again_and_nothing_happens_twice(
    committer: Committer, journal_server: RedisServer
) -> None:
    stop = threading.Event()

    def flush() -> None:
        with journal_server.client() as client:
            while not stop.wait(0.005):
                client.script_flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    try:
        with ThreadPoolExecutor(16) as callers:
            list(callers.map(lambda n: send(committer, f"m{n}"), range(1_000)))
    finally:
        stop.set()
        flusher.join()
    with journal_server.client() as client:
        mids = [fields[b"mid"] for _, fields in client.xrange(KEYS.mailbox)]
    assert sorted(mids) == sorted(f"m{n}".encode() for n in range(1_000))


def test_a_lease_has_one_holder_and_each_taker_a_new_epoch(committer: Committer) -> None:
    first, refused, second = take(committer, 0, "h1"), take(committer, 0, "h2"), take(committer, 0, "h1")
    assert 0 == refused < first < second
    assert take(committer, 1, "h2") > 0


def test_an_epoch_is_not_given_out_again_though_the_disk_has_lost_it(
    committer: Committer, journal_server: RedisServer
) -> None:
    lost = take(committer, 0, "h1")
    with journal_server.client() as client:
        client.delete(KEYS.lease, KEYS.epoch)
        eventually(lambda: client.time()[0] * 1000 > lost)
    assert take(committer, 0, "h2") > lost


def test_an_epoch_never_falls_though_the_clock_does(committer: Committer, journal_server: RedisServer) -> None:
    with journal_server.client() as client:
        client.set(KEYS.epoch, 9_000_000_000_000)
    assert take(committer, 0, "h1") == 9_000_000_000_001


def test_a_server_that_is_away_is_told_to_everybody_and_found_again(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis("journal")
    committer = Committer(server.url)
    send(committer, "before")
    server.kill()

    def fails(n: int) -> bool:
        with pytest.raises(JournalDownError):
            send(committer, f"m{n}")
        return True

    with ThreadPoolExecutor(16) as callers:
        assert all(callers.map(fails, range(64)))
    server.start()
    assert send(committer, "after")
    with server.client() as client:
        assert [fields[b"mid"] for _, fields in client.xrange(KEYS.mailbox)] == [b"before", b"after"]
    committer.stop()


def test_when_one_connection_breaks_the_other_begins_anew_too(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis("journal")
    committer = Committer(server.url)

    def send_by_both(name: str) -> None:
        server.pause()
        with ThreadPoolExecutor(2) as callers:
            both = [callers.submit(send, committer, f"{name}{n}") for n in range(2)]
            eventually(lambda: not committer._idle)
            server.resume()
            assert all(call.result(60) for call in both)

    send_by_both("before")
    server.restart(kill=True)
    with pytest.raises(JournalDownError):
        send(committer, "lost")
    send_by_both("after")
    committer.stop()


def test_a_server_killed_under_load_has_every_acknowledged_call(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis("journal")
    committer = Committer(server.url)
    done: list[str] = []
    failed: list[str] = []
    stop, numbers = threading.Event(), itertools.count()

    def call(n: int) -> None:
        try:
            send(committer, f"m{n}")
            done.append(f"m{n}")
        except JournalDownError:
            failed.append(f"m{n}")

    def call_on() -> None:
        while not stop.is_set():
            call(next(numbers))

    with ThreadPoolExecutor(16) as callers:
        for _ in range(16):
            callers.submit(call_on)
        try:
            eventually(lambda: len(done) > 500)
            server.restart(kill=True)
            then = len(done)
            eventually(lambda: len(done) > then + 500)
        finally:
            stop.set()
    assert failed
    with server.client() as client:
        stored = [fields[b"mid"].decode() for _, fields in client.xrange(KEYS.mailbox)]
    assert set(done) <= set(stored), "acknowledged, and gone"
    assert len(stored) == len(set(stored)), "sent twice"
    committer.stop()


def test_a_full_server_refuses_and_nothing_is_half_written(make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis("journal")
    committer = Committer(server.url)
    send(committer, "before")
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
        eventually(lambda: _is_full(client))
        before = everything(client)
        with pytest.raises(JournalDownError):
            send(committer, "m", receipt=b"a submission")
        with pytest.raises(JournalDownError):
            take(committer, 0, "h1")
        assert everything(client) == before
        client.config_set("maxmemory", "0")
        assert send(committer, "after", receipt=b"a submission")
        assert client.get(KEYS.receipt("j")) == b"a submission"
    committer.stop()


def _is_full(client: redis.Redis) -> bool:
    try:
        client.rpush("ballast", b"x" * 100_000)
    except redis.exceptions.OutOfMemoryError:
        return True
    return False


@pytest.mark.parametrize("error", [RuntimeError("a bug"), TypeError("not bytes")])
def test_an_error_that_is_not_redis_own_reaches_the_caller_and_the_connections_stay(
    committer: Committer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:

        def broken(*_: object) -> list[Any]:
            raise error

        patch.setattr(Committer, "_pipeline", broken)
        for _ in range(4):
            with pytest.raises(JournalDownError):
                send(committer, "m")
    assert send(committer, "after")
    assert len(committer._idle) == 2


def test_what_is_in_line_is_done_after_stop_and_what_comes_later_is_refused(
    redis_url: str, journal_server: RedisServer
) -> None:
    with journal_server.client() as client:
        before = len(client.client_list())
    committer = Committer(redis_url)
    send(committer, "first")
    journal_server.pause()
    with ThreadPoolExecutor(16) as callers:
        try:
            answers = [callers.submit(send, committer, f"m{n}") for n in range(16)]
            eventually(lambda: len(committer._line) == 14, why="two send, the others wait in line")
            committer.stop()
            with pytest.raises(JournalDownError):
                send(committer, "late")
        finally:
            journal_server.resume()
    assert len({answer.result(60) for answer in answers}) == 16
    with journal_server.client() as client:
        assert client.xlen(KEYS.mailbox) == 17
        eventually(lambda: len(client.client_list()) <= before, why="connections are left open")
