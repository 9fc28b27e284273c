"""What workers publish counts, before it is there and until it is gone; the limits of media reach the stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from callsheet.actors.stores.charged import ChargedStore, open_charged_store
from callsheet.actors.tenants.limits import OwnLimits, Tenants, limits_of
from callsheet.jobs.job import InputRef
from callsheet.jobs.messages import Forget, Retry, Submit
from tests.servers import RedisServer
from tests.stages import tricks
from tests.stages.conftest import Service
from tests.waiting import eventually

ME = "me"  # the tenant of the jobs that a Service submits


@pytest.fixture
def client(journal_server: RedisServer) -> Iterator[Any]:
    with journal_server.client() as client:
        yield client


@pytest.fixture
def store(service: Service) -> ChargedStore:
    return open_charged_store(service.settings)


def submit_charged(service: Service, store: ChargedStore, job: str, trick: str) -> None:
    """As the API does it: the upload is counted while it comes."""
    upload = store.new_upload(ME)
    upload.write(b"some sound")
    assert store.accept_input(job, upload)
    ref = InputRef("sound.wav", upload.bytes, upload.sha256, "audio/wav")
    given = {"trick": trick, "marks": str(service.marks)}
    assert service.jobs.ask(job, Submit(job, ME, "one", given, tricks.one.specs, ref)).ok


def test_a_stage_that_would_pass_the_quota_fails_by_that_name_and_leaves_nothing(
    service: Service, store: ChargedStore, client: Any
) -> None:
    tenants, job = Tenants(client, limits_of(service.settings)), "ab" * 16
    tenants.set(ME, OwnLimits(bytes=10 + 4))  # the input, and one byte less than the output
    service.worker("cpu", max_duration_seconds=77, max_pixels=1234)
    submit_charged(service, store, job, "write")
    failed = service.ended(job)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.error.retryable) == ("failed", "quota_exceeded", False)
    assert service.published(job) == []
    assert store.ledger.used(ME) == 10

    tenants.set(ME, OwnLimits(bytes=10 + 5))

    def done() -> bool:
        """Tried again until it succeeds: a worker may know the old limit for two seconds more."""
        return service.ended(job).status == "completed" or (service.jobs.ask(job, Retry()).ok and False)

    eventually(done)
    assert store.ledger.used(ME) == 15
    assert store.ledger.entries(job) == {"input": 10, service.published(job)[0]: 5}

    assert service.jobs.ask(job, Forget()).ok
    eventually(lambda: store.ledger.used(ME) == 0)
    assert store.ledger.entries(job) == {}
    assert service.run("limits").result == {"max_seconds": 77.0, "pixels": 1234}
