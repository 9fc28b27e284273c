"""A job by address: a stage gets the file, the others have it as their input, and every trouble has its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.actors.keys import new_job_id
from callsheet.actors.stages.sources import with_fetch
from callsheet.jobs.events import StageProgressed
from callsheet.jobs.job import InputRef, Job
from callsheet.jobs.messages import Cancel, Retry, Submit
from tests.media.source import DATA, Source
from tests.stages import fetched
from tests.stages.conftest import Service, service_of_a_file
from tests.waiting import eventually

SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    with Source() as source:
        yield source


@pytest.fixture(scope="module")
def service(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory, source: Source) -> Iterator[Service]:
    with service_of_a_file(tmp_path_factory.mktemp("fetching")) as made:
        made.worker(
            *("cpu", "io"),
            pipelines="tests.stages.fetched:pipeline",
            allowed_addresses=source.where,
            max_upload_bytes=2_000_000,
        )
        yield made


def begin(service: Service, url: str) -> str:
    job = new_job_id()
    graph = with_fetch(fetched.pipeline.specs)
    assert graph is not None
    file = InputRef("talk.wav", 0, "", "application/octet-stream", source_url=url)
    outcome = service.jobs.ask(job, Submit(job, "me", "fetched", {"marks": str(service.marks)}, graph, file))
    assert outcome.ok, outcome
    return job


def run(service: Service, url: str) -> Job:
    return service.ended(begin(service, url))


def test_the_file_is_fetched_and_is_the_input_of_every_stage(service: Service, source: Source) -> None:
    job = run(service, source.url("cut.wav"))
    assert (job.status, job.error) == ("completed", None)
    assert list(job.stages) == ["fetch", "look", "again"]
    said = {"sha256": SHA256, "bytes": len(DATA), "filename": "talk.wav", "media_type": "audio/wav"}
    assert job.result == said
    known = job.input
    assert (known.sha256, known.bytes, known.filename, known.media_type) == tuple(said.values())
    assert job.artifacts == []
    events = [event for event in service.events(job.id) if event.stage == "fetch"]
    told = [event.data.progress for event in events if isinstance(event.data, StageProgressed)]
    assert told
    assert told == sorted(told)


def test_a_retry_from_a_later_stage_does_not_fetch_again(service: Service, source: Source) -> None:
    job = run(service, source.url("whole"))
    before = len(source.asked)
    assert service.jobs.ask(job.id, Retry("again")).ok
    assert service.ended(job.id).result["sha256"] == SHA256
    assert len(source.asked) == before
    assert service.jobs.ask(job.id, Retry("fetch")).ok
    assert service.ended(job.id).status == "completed"
    assert len(source.asked) == before + 1


def test_trouble_that_passes_is_tried_again(service: Service, source: Source) -> None:
    source.asked.clear()
    job = run(service, source.url("busy-once"))
    assert job.status == "completed"
    assert [event.stage for event in service.events(job.id, "StageRetryScheduled")] == ["fetch"]


@pytest.mark.parametrize(
    ("how", "code"),
    [("missing", "fetch_failed"), ("away", "fetch_failed"), ("endless", "upload_too_large")],
)
def test_trouble_that_stays_fails_the_job_by_its_name(service: Service, source: Source, how: str, code: str) -> None:
    job = run(service, source.url(how))
    assert job.error is not None
    assert (job.status, job.error.code, job.error.stage, job.error.retryable) == ("failed", code, "fetch", False)
    assert job.stages["look"].status == "waiting"
    assert not source.canary_was_touched()


def test_an_address_that_is_not_allowed_is_refused_by_the_stage_as_well(service: Service, source: Source) -> None:
    """The API has let it pass (a name whose addresses are bad, say): no packet is sent."""
    for host in ("127.0.0.1", "localhost", "[::1]"):
        job = run(service, f"http://{host}:{source.canary_port}/a.wav")
        assert job.error is not None
        assert (job.error.code, job.error.retryable) == ("url_forbidden", False)
    assert not source.canary_was_touched()


def test_a_cancel_stops_a_fetch_that_hangs(service: Service, source: Source) -> None:
    job = begin(service, source.url("hanging"))
    eventually(lambda: ("/hanging", None) in source.asked)
    assert service.jobs.ask(job, Cancel()).ok
    assert service.ended(job).status == "cancelled"
    eventually(lambda: service.in_work() == [])
