"""A host that stops lets its partitions go and its connections, whatever else does not want to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from callsheet.actors.committer import JournalDownError
from callsheet.actors.host import Host
from callsheet.actors.keys import HOSTS, PartitionKeys
from callsheet.actors.webhooks import deliverer
from callsheet.config.settings import Settings
from tests.servers import RedisServer
from tests.waiting import eventually


def connections(server: RedisServer) -> int:
    """How many there are, whoever has them."""
    with server.client() as client:
        return len(client.client_list())


def let_go(host: Host, server: RedisServer, before: int) -> bool:
    """Nothing is held any more, here or in the journal, and no more connections than `before` it."""
    with server.client() as client:
        assert client.exists(HOSTS, *(PartitionKeys(number).lease for number in range(4))) == 0
    eventually(lambda: connections(server) <= before, why="connections are left open")
    with pytest.raises(JournalDownError, match="lets go"):
        host._committer.run("lease", [], [])
    return not any(thread.is_alive() for thread in (*host._threads, *host._performer._threads))


def started(settings: Settings) -> Host:
    host = Host(settings.model_copy(update={"partitions": 4}))
    host.start()
    eventually(lambda: len(host.owned) == 4)
    return host


def test_webhooks_that_do_not_end_hold_up_nothing_else(
    settings: Settings, journal_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "STOP_SECONDS", 0.1)
    before = connections(journal_server)
    host, go_on = started(settings), threading.Event()
    host._deliverer._loop.call_soon_threadsafe(go_on.wait)
    host.stop()
    assert let_go(host, journal_server, before)
    go_on.set()
    host._deliverer._thread.join(60)
    assert not host._deliverer._thread.is_alive()
    host._deliverer._loop.run_until_complete(asyncio.sleep(0))
    host._deliverer._loop.close()


def test_every_step_of_the_end_is_reached_though_each_one_fails(
    settings: Settings, journal_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = connections(journal_server)
    host, reached = started(settings), list[str]()
    host._stopping.set()
    for thread in host._threads:
        thread.join()  # one of them hands over, too

    def failing(name: str, step: Callable[..., None]) -> Callable[..., None]:
        def fail(*args: Any) -> None:
            step(*args)
            reached.append(name)
            raise RuntimeError(name)

        return fail

    steps = [(host._deliverer, "drain"), (host, "_hand_over"), (host.leases, "leave"), (host._pool, "stop")]
    steps += [(part, "stop") for part in (host._performer, host._deliverer, host._committer)]
    for part, name in steps:
        monkeypatch.setattr(part, name, failing(f"{type(part).__name__}.{name}", getattr(part, name)))
    host.stop()
    assert reached == [f"{type(part).__name__}.{name}" for part, name in steps]
    assert let_go(host, journal_server, before)
