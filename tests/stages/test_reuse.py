"""What a stage gave is used again where it would be made from the same, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from callsheet.actors.stages.reuse import Reuse
from callsheet.actors.tenants.limits import OwnLimits, Tenants, limits_of
from callsheet.actors.tenants.names import ReuseKeys
from callsheet.jobs.events import StageSucceeded
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Forget, Retry
from tests.stages.conftest import Service
from tests.waiting import eventually


def made_by(service: Service, job: Job) -> list[str]:
    """Whose outputs the stages of a job took, in the order in which they succeeded; "" for its own."""
    succeeded = service.events(job.id, "StageSucceeded")
    return [event.data.reused for event in succeeded if isinstance(event.data, StageSucceeded)]


def kept(service: Service, count: int, **more: object) -> Job:
    job = service.run(pipeline="kept", count=count, **more)  # type: ignore[arg-type]
    assert job.status == "completed", job.error
    return job


def test_a_later_job_takes_what_an_earlier_one_made_from_the_same_and_says_so(shared: Service) -> None:
    first, second = kept(shared, 1), kept(shared, 1)
    assert made_by(shared, first) == ["", ""]
    assert made_by(shared, second) == [first.id, first.id]
    assert second.result == first.result
    assert (second.input.duration, second.progress) == (9, 1.0)
    refs = [(ref.name, ref.sha256, ref.artifact) for ref in second.artifacts]
    assert refs == [(ref.name, ref.sha256, ref.artifact) for ref in first.artifacts]


def test_what_was_taken_is_the_jobs_own_and_outlives_the_one_that_made_it(shared: Service) -> None:
    first, second = kept(shared, 2), kept(shared, 2)
    assert shared.jobs.ask(first.id, Forget()).ok
    eventually(lambda: shared.published(first.id) == [])
    ref = second.artifacts[0]
    text = shared.store.path(second.id, ref.folder, ref.name).read_text()
    assert text == second.result["taken"] == first.result["taken"]


def test_what_a_forgotten_job_made_is_made_again(shared: Service) -> None:
    first = kept(shared, 3)
    assert shared.jobs.ask(first.id, Forget()).ok
    eventually(lambda: shared.published(first.id) == [])
    assert made_by(shared, kept(shared, 3)) == ["", ""]


def test_another_value_of_a_param_that_is_used_makes_it_again_and_of_one_that_is_not_does_not(shared: Service) -> None:
    first = kept(shared, 4)
    assert first.result["sees_trick"] is False
    assert made_by(shared, kept(shared, 5)) == ["", ""]
    assert made_by(shared, kept(shared, 4, trick="fails")) == [first.id, ""]  # `take` says not what it uses: all


def test_another_input_makes_it_again(shared: Service) -> None:
    kept(shared, 6)
    assert made_by(shared, kept(shared, 6, sound=b"another sound")) == ["", ""]


def test_nobody_takes_what_another_tenant_made(shared: Service) -> None:
    first = kept(shared, 7)
    assert made_by(shared, kept(shared, 7, tenant="them")) == ["", ""]
    assert made_by(shared, kept(shared, 7)) == [first.id, first.id]


def test_a_retry_takes_what_the_attempt_before_it_made(shared: Service) -> None:
    first = kept(shared, 8)
    assert shared.jobs.ask(first.id, Retry(from_stage="make")).ok
    again = shared.ended(first.id)
    assert (again.attempt, again.status, again.result) == (2, "completed", first.result)
    assert made_by(shared, again) == ["", "", first.id, first.id]


def test_what_has_changed_in_the_store_is_made_again(shared: Service) -> None:
    first = kept(shared, 9)
    ref = first.artifacts[0]
    shared.store.path(first.id, ref.folder, ref.name).write_text("9 something else")
    second = kept(shared, 9)
    assert made_by(shared, second) == ["", ""]
    assert second.result["taken"] == f"9 {second.result['serial']}"


def test_nothing_is_reused_while_its_files_are_gone(shared: Service) -> None:
    first = kept(shared, 10)
    ref = first.artifacts[0]
    shared.store.path(first.id, ref.folder, ref.name).unlink()
    assert made_by(shared, kept(shared, 10)) == ["", ""]


def test_a_note_that_cannot_be_read_is_a_miss(shared: Service) -> None:
    kept(shared, 13, tenant="noted")
    keys, client = ReuseKeys("noted"), shared.host._redis
    eventually(lambda: client.hlen(keys.made) == 2)
    client.hset(keys.made, mapping=dict.fromkeys(client.hkeys(keys.made), b'{"job":7}'))
    assert made_by(shared, kept(shared, 13, tenant="noted")) == ["", ""]


def test_a_success_whose_job_was_forgotten_at_once_is_not_noted(shared: Service) -> None:
    job = kept(shared, 14, tenant="brief")
    keys, client = ReuseKeys("brief"), shared.host._redis
    eventually(lambda: client.hlen(keys.made) == 2)
    client.delete(keys.made, keys.order)
    assert shared.jobs.ask(job.id, Forget()).ok
    eventually(lambda: shared.jobs.events(job.id) == [])
    reuse = Reuse(shared.settings, shared.jobs, shared.store)
    reuse.note(job, "make", job.seq)
    reuse.close()
    assert not client.exists(keys.made, keys.order)


@pytest.fixture
def thrifty(shared: Service) -> Iterator[Tenants]:
    """The limits of tenants, as set."""
    tenants = Tenants(shared.host._redis, limits_of(shared.settings))
    yield tenants
    tenants.set("other", OwnLimits())


def test_a_tenant_may_have_everything_made_anew(shared: Service, thrifty: Tenants) -> None:
    thrifty.set("other", OwnLimits(reuse=False))
    kept(shared, 11, tenant="other")
    assert made_by(shared, kept(shared, 11, tenant="other")) == ["", ""]


def test_a_stage_may_be_run_each_time(service: Service) -> None:
    service.worker("cpu", no_reuse="kept.take")
    first, second = kept(service, 12), kept(service, 12)
    assert made_by(service, second) == [first.id, ""]
