"""What processes count, and how one of them comes to show the figures of all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from callsheet.actors.committer import Committer, connect
from callsheet.actors.host import Host
from callsheet.actors.journal import Journal, LostOwnershipError
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.actors.telemetry import board as metrics_board
from callsheet.actors.telemetry.board import BOARD, Board, Snapshot, families_of, merged
from callsheet.actors.telemetry.figures import Figures
from callsheet.actors.telemetry.metrics import REGISTRY
from callsheet.config.settings import Settings
from callsheet.jobs.rules import decide
from tests.actors.kit import POLICY, START, put, submission
from tests.waiting import eventually


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    client = connect(redis_url)
    yield client
    client.close()


def commit_as(epoch: int, client: Any, redis_url: str) -> None:
    """Commit a submission as an owner with that epoch, where 2 is the one that counts."""
    committer, keys = Committer(redis_url), PartitionKeys(0)
    client.set(keys.epoch, 2)
    message = submission()
    try:
        delivery = put(client, keys, message.job, message)
        Journal(committer, client, keys, epoch).commit(None, delivery, decide(None, message, START, 0.5, POLICY), START)
    finally:
        committer.stop()


def test_a_commit_is_counted_by_its_answer_and_measured(client: Any, redis_url: str) -> None:
    before = [count("callsheet_commits_total", answer=a) for a in ("ok", "fenced")]
    measured = count("callsheet_commit_seconds_count")
    commit_as(2, client, redis_url)
    with pytest.raises(LostOwnershipError):
        commit_as(1, client, redis_url)
    after = [count("callsheet_commits_total", answer=a) for a in ("ok", "fenced")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]
    assert count("callsheet_commit_seconds_count") == measured + 2


def test_a_message_that_becomes_a_dead_letter_is_counted_and_shown(settings: Settings, client: Any) -> None:
    before, taken = count("callsheet_messages_set_aside_total"), count("callsheet_lease_changes_total", change="taken")
    host, figures = Host(settings), Figures(settings)
    host.start()
    try:
        eventually(lambda: len(host.owned) == settings.partitions)
        now_owned = taken + settings.partitions  # or more: a partition may be lost, and taken again
        eventually(lambda: count("callsheet_lease_changes_total", change="taken") >= now_owned)
        client.xadd(PartitionKeys(0).mailbox, {"job": new_job_id(), "mid": "", "body": "{}", "reply": ""})
        eventually(lambda: count("callsheet_messages_set_aside_total") > before)
        eventually(lambda: b"callsheet_dead_letters 1.0\n" in figures.text())
    finally:
        host.stop()
        figures.close()
    assert count("callsheet_lease_changes_total", change="released") >= settings.partitions


def test_a_message_that_waits_is_shown_with_its_age(settings: Settings, client: Any) -> None:
    figures = Figures(settings)
    seconds, _ = client.time()
    client.xadd(PartitionKeys(3).mailbox, {"job": "x"}, id=f"{(seconds - 60) * 1000}-0")
    lines = figures.text().decode().splitlines()
    figures.close()
    assert 'callsheet_mailbox_messages{partition="3"} 1.0' in lines
    (age,) = [
        line.rpartition(" ")[2] for line in lines if line.startswith('callsheet_mailbox_oldest_seconds{partition="3"')
    ]
    assert 60 <= float(age) < 120


def test_figures_of_several_processes_are_told_apart() -> None:
    def snapshot(process: str, value: int) -> Snapshot:
        registry = CollectorRegistry()
        Counter("things", "Things.", ["kind"], registry=registry).labels("a").inc(value)
        return Snapshot("worker", process, families_of(registry))

    (metric,) = merged([snapshot("one", 1), snapshot("two", 2)])
    assert {(s.labels["process"], s.labels["kind"], s.value) for s in metric.samples} == {
        ("one", "a", 1),
        ("two", "a", 2),
    }


def test_a_process_shows_itself_until_it_stops(broker_url: str) -> None:
    one, two = Board(broker_url, "host").start(), Board(broker_url, "api")
    shown = eventually(two.others)
    assert [(s.role, bool(s.families)) for s in shown] == [("host", True)]
    one.stop()
    assert two.others() == []
    two.stop()


def test_what_a_killed_process_showed_goes_by_itself(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_board, "EXPIRES_MS", 50)
    dead, alive = Board(broker_url, "worker"), Board(broker_url, "api")
    dead.write()
    eventually(lambda: alive.others() == [])

    def left() -> int:
        alive.write()
        found: int = connect(broker_url).zcard(BOARD)
        return found

    eventually(lambda: left() == 1)


def test_what_another_version_shows_is_left_out(broker_url: str) -> None:
    client = connect(broker_url)
    client.zadd(BOARD, {"odd": 2**50})
    client.set(f"{BOARD}:odd", b'{"role": 1}')
    board = Board(broker_url, "api")
    assert board.others() == []
    board.stop()
    client.close()
