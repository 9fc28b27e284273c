"""A disk that is full under a stage: it fails by name, nothing is left of it, and with room again it succeeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callsheet.config.settings import Settings
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Retry
from tests.small_disk import SmallDisk
from tests.stages.conftest import Service
from tests.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def small(
    request: pytest.FixtureRequest, make_disk: Callable[[Path, int], SmallDisk], settings: Settings, tmp_path: Path
) -> Iterator[tuple[Service, SmallDisk]]:
    """A service with a worker, whose folder of the name that the test gives is a disk of 8 MiB."""
    disk = make_disk(settings.data / request.param, 8 * MIB)
    made = Service(settings, tmp_path / "marks")
    made.worker()
    yield made, disk
    made.close()


def fails_for_want_of_room(service: Service, trick: str, pipeline: str = "one", **params: Any) -> Job:
    job = service.run(trick, pipeline, **params)
    assert job.error is not None, job.status
    assert (job.status, job.error.code, job.error.retryable) == ("failed", "storage_full", True), job.error
    assert service.in_work() == []
    assert service.published(job.id) == []
    return job


def retried(service: Service, job: str) -> Job:
    assert service.jobs.ask(job, Retry("act")).ok
    done = service.ended(job)
    assert (done.status, done.error, done.attempt) == ("completed", None, 2)
    return done


def whole(service: Service, job: Job) -> int:
    """The size of its artifact, once it was seen to be what the job says."""
    [ref] = job.artifacts
    content = service.store.path(job.id, ref.folder, ref.name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (ref.bytes, ref.sha256)
    return len(content)


@pytest.mark.parametrize("small", ["work"], indirect=True)
@pytest.mark.parametrize(
    ("trick", "count", "size"), [("fills", 2 * MIB, 2 * MIB), ("converts", 20, 20 * 48_000 * 2 + 78)]
)
def test_an_output_that_does_not_fit_its_work_folder(
    small: tuple[Service, SmallDisk], trick: str, count: int, size: int
) -> None:
    service, disk = small
    disk.fill(leave=MIB)
    job = fails_for_want_of_room(service, trick, count=count)
    assert disk.free == MIB
    disk.empty()
    assert whole(service, retried(service, job.id)) == size


@pytest.mark.parametrize("small", ["store"], indirect=True)
def test_an_output_that_does_not_fit_the_store(small: tuple[Service, SmallDisk]) -> None:
    """The work folder is on another disk, so it is copied, and nothing is left of the copy."""
    service, disk = small
    disk.fill(leave=MIB)
    job = fails_for_want_of_room(service, "fills", count=2 * MIB)
    assert disk.files() == [f"jobs/{job.id}/input/source"]
    disk.empty()
    assert whole(service, retried(service, job.id)) == 2 * MIB


@pytest.mark.parametrize("small", ["work"], indirect=True)
def test_a_try_after_there_is_room_again_succeeds_without_anybody_asking(small: tuple[Service, SmallDisk]) -> None:
    service, disk = small
    disk.fill(leave=MIB)
    job = service.submit("fills", "patient", count=2 * MIB)
    eventually(lambda: service.events(job, "StageFailed"))
    disk.empty()
    done = service.ended(job)
    assert (done.status, done.attempt, whole(service, done)) == ("completed", 1, 2 * MIB)
