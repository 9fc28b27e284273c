"""The steps of a message, one at a time: decide, commit, evolve, perform; and what another owner finds in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callsheet.actors.committer import Committer
from callsheet.actors.keys import new_job_id
from callsheet.actors.stores.folder import FolderStore
from callsheet.jobs import messages as m
from callsheet.jobs.effects import Dispatch
from tests.actors.kit import ONE, check_job, log_of, put, submission
from tests.actors.rehearsal import KEYS, RehearsalHost, rehearse
from tests.servers import RedisServer

NewHost = Callable[[], RehearsalHost]


@pytest.fixture
def client(journal_server: RedisServer, redis_url: str) -> Iterator[Any]:
    with journal_server.client() as client:
        yield client


@pytest.fixture
def new_host(
    client: Any, redis_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NewHost]:
    rehearse(monkeypatch)
    committer, store = Committer(redis_url), FolderStore(tmp_path)
    hosts: list[RehearsalHost] = []

    def make() -> RehearsalHost:
        hosts.append(RehearsalHost(len(hosts), committer, client, broker_url, store))
        return hosts[-1]

    yield make
    for host in hosts:
        host.end()
    committer.stop()


def submitted(client: Any) -> str:
    job = new_job_id()
    put(client, KEYS, job, submission(job, ONE))
    return job


def types(client: Any, job: str) -> list[str]:
    return [entry.type for entry in log_of(client, KEYS, job)]


def test_before_the_commit_nothing_is_acknowledged_written_or_performed(client: Any, new_host: NewHost) -> None:
    job, host = submitted(client), new_host()
    host.handle_next("host.decided")
    assert (client.xlen(KEYS.mailbox), types(client, job), host.effects()) == (1, [], [])
    host.thaw()
    assert (client.xlen(KEYS.mailbox), types(client, job)) == (0, ["JobSubmitted", "StageDispatched"])
    assert [item.effect for item in host.effects()] == [Dispatch("a", 2, "cpu")]


def test_what_an_owner_had_only_decided_the_next_one_decides_and_the_old_one_is_fenced(
    client: Any, new_host: NewHost
) -> None:
    job, old = submitted(client), new_host()
    old.handle_next("host.decided")
    new = new_host()
    assert new.handle_next()
    log = log_of(client, KEYS, job)
    old.thaw()
    assert (old.owner.lost, new.owner.lost) == (True, False)
    assert log_of(client, KEYS, job) == log
    assert {entry.epoch for entry in log} == {new.epoch}
    assert old.effects() == []


def test_what_an_owner_had_committed_and_not_performed_the_next_one_performs(client: Any, new_host: NewHost) -> None:
    submitted(client)
    old = new_host()
    old.handle_next("host.committed")
    new = new_host()
    assert not new.handle_next(), "a message that was applied is read again"
    new.performer.look_after([new.owner])
    assert [item.effect for item in new.effects()] == [Dispatch("a", 2, "cpu")]


def test_a_command_that_was_applied_before_leaves_the_actor_as_it_was(client: Any, new_host: NewHost) -> None:
    """Its state is the last committed one, also if the decision it has just made was not committed."""
    job, host = submitted(client), new_host()
    host.handle_next()
    put(client, KEYS, job, m.Retry(), mid="m")  # refused, and so answered, for as long as the mid is known
    put(client, KEYS, job, m.Claim("a", 2, "w"))
    put(client, KEYS, job, m.Cancel(), mid="m")
    put(client, KEYS, job, m.Progress("a", 2, 1, 0.5))
    while host.handle_next():
        pass
    assert not host.owner.lost
    assert types(client, job) == ["JobSubmitted", "StageDispatched", "StageStarted", "StageProgressed"]
    check_job(client, KEYS, job)


def test_a_heartbeat_ahead_of_its_timer_keeps_the_stage_and_the_actor_as_it_was(client: Any, new_host: NewHost) -> None:
    job, host = submitted(client), new_host()
    put(client, KEYS, job, m.Claim("a", 2, "w"))
    put(client, KEYS, job, m.Heartbeat("a", 2))
    put(client, KEYS, job, m.Fired("alive:a", 2))
    put(client, KEYS, job, m.Progress("a", 2, 1, 0.5))
    while host.handle_next():
        pass
    assert not host.owner.lost
    assert types(client, job)[2:] == ["StageStarted", "StageProgressed"]


def test_a_message_that_cannot_even_be_set_aside_costs_the_partition_and_leaves_none_behind_it_uncounted(
    client: Any, new_host: NewHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, host = submitted(client), new_host()
    monkeypatch.setattr(host.journal, "commit", _raise(ValueError("a bug")))
    monkeypatch.setattr(host.journal, "set_aside", _raise(ValueError("another")))
    put(client, KEYS, job, m.Heartbeat("a", 2))
    put(client, KEYS, job, m.Heartbeat("a", 2))
    host.handle_next(freeze_at="host.decided")
    assert host.handle_next()
    assert host.handle_next()
    host.thaw()
    assert (host.owner.lost, host.owner.in_flight, len(host.owner._seats)) == (True, 0, 0)
    assert client.xlen(KEYS.mailbox) == 3
    assert new_host().handle_next()
    check_job(client, KEYS, job)


def _raise(error: Exception) -> Callable[..., Any]:
    def raises(*_: object) -> Any:
        raise error

    return raises
