"""The performer of effects in a running host: what is slow, or away, and what must go on meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import structlog

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.host import Host
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.config.settings import Settings
from callsheet.jobs import messages as m
from tests.actors.kit import submission
from tests.servers import RedisServer
from tests.waiting import eventually

PARTITIONS = 4


def started(settings: Settings) -> Host:
    host = Host(settings.model_copy(update={"partitions": PARTITIONS}))
    host.start()
    eventually(lambda: len(host.owned) == PARTITIONS)
    return host


@pytest.fixture
def host(settings: Settings) -> Iterator[Host]:
    host = started(settings)
    yield host
    host.stop()


@pytest.fixture
def jobs(settings: Settings) -> Iterator[BlockingJobs]:
    jobs = BlockingJobs(settings.journal, partitions=PARTITIONS, reply_timeout=60.0)
    yield jobs
    jobs.close()


def submitted(jobs: BlockingJobs) -> str:
    job = new_job_id()
    assert jobs.ask(job, submission(job)).ok
    return job


def is_offered(client: Any, job: str) -> bool:
    """Whether the broker has the job's first stage."""
    return bool(client.hexists(PartitionKeys(partition_of(job, PARTITIONS)).dispatched, f"{job}|2"))


def test_a_broker_that_is_away_is_tried_and_complained_of_once_in_a_while_however_many_wait(
    settings: Settings, make_redis: Callable[..., RedisServer]
) -> None:
    broker = make_redis("broker")
    host = started(settings.model_copy(update={"broker_url": broker.url}))
    jobs = BlockingJobs(settings.journal, partitions=PARTITIONS, reply_timeout=60.0)
    broker.kill()
    try:
        with structlog.testing.capture_logs() as lines:
            waiting = [submitted(jobs) for _ in range(300)]
            begun = time.monotonic()
            eventually(lambda: time.monotonic() > begun + 3)  # it would have tried each of them three times
        complaints = [line for line in lines if line["event"] == "effect put off"]
        assert 0 < len(complaints) < len(waiting) / 2
        broker.start()
        with redis.Redis.from_url(settings.journal) as client:
            eventually(lambda: all(is_offered(client, job) for job in waiting))
    finally:
        host.stop()
        jobs.close()


def test_files_that_do_not_go_hold_up_no_stage(
    host: Host, jobs: BlockingJobs, journal_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs, and more jobs that are to be removed from it than there are threads."""
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def hangs(_job: str) -> None:
        waiting.release()
        go_on.wait(60)

    monkeypatch.setattr(host._store, "remove_job", hangs)
    forgotten = [submitted(jobs) for _ in range(20)]
    for job in forgotten:
        assert jobs.ask(job, m.Cancel()).ok
        assert jobs.ask(job, m.Forget()).ok
    assert waiting.acquire(timeout=60)
    with journal_server.client() as client:
        after = submitted(jobs)
        try:
            eventually(lambda: is_offered(client, after), 20.0, why="its dispatch waits for the files of others")
        finally:
            go_on.set()
