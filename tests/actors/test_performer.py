"""The performer of effects in a running host: what is slow, or away, and what must go on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.host import Host
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.config.settings import Settings
from callsheet.jobs import messages as m
from tests.actors.kit import submission
from tests.servers import RedisServer
from tests.waiting import eventually

PARTITIONS = 4


@pytest.fixture
def host(settings: Settings) -> Iterator[Host]:
    host = Host(settings.model_copy(update={"partitions": PARTITIONS}))
    host.start()
    eventually(lambda: len(host.owned) == PARTITIONS)
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
