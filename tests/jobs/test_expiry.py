"""The end of a job's life: by its client's wish or by its age; files first, then the record."""

from __future__ import annotations

import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.effects import Erase, RemoveFiles
from tests.jobs.kit import LINEAR, Play, body, in_status, types


def ended(policy: Policy | None = None) -> Play:
    play = Play(LINEAR, policy)
    play.tell(m.Cancel())
    return play


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_job_that_ended_can_be_forgotten_files_first(status: str) -> None:
    play = in_status(status)
    assert play is not None
    decision = play.tell(m.Forget())
    assert (types(decision), body(decision, e.JobExpired).reason) == (["JobExpired"], "forgotten")
    assert RemoveFiles() in decision.effects
    assert not any(isinstance(effect, Erase) for effect in decision.effects)
    assert (play.job.status, play.timers) == ("expired", {})


def test_the_record_goes_when_the_files_are_gone() -> None:
    play = ended(Policy(tombstone=90_000))
    play.tell(m.Forget())
    decision = play.tell(m.FilesRemoved())
    assert (decision.events, decision.effects) == ((), (Erase(90),))
    assert play.current is None


def test_word_that_the_files_are_gone_means_nothing_to_a_job_that_still_lives() -> None:
    play = ended()
    assert play.tell(m.FilesRemoved()).outcome.code == "stale_report"
    play.tell(m.Forget())
    play.tell(m.FilesRemoved())
    assert play.tell(m.FilesRemoved()).outcome.code == "stale_report"


def test_a_job_expires_when_its_retention_is_over() -> None:
    play = ended()
    decision = play.fire("expire")
    assert (types(decision), body(decision, e.JobExpired).reason) == (["JobExpired"], "retention")
    assert RemoveFiles() in decision.effects


def test_an_expiry_that_a_retry_has_left_behind_expires_nothing() -> None:
    play = ended()
    fired = play.ring("expire")
    play.tell(m.Retry())
    assert play.deliver(fired).outcome.code == "stale_report"
    play.tell(m.Cancel())
    assert play.tell(fired).outcome.code == "stale_report"
    assert play.job.status == "cancelled"


@pytest.mark.parametrize("status", ["queued", "running", "cancelling"])
def test_a_job_that_has_not_ended_does_not_expire_and_is_not_forgotten(status: str) -> None:
    play = in_status(status)
    assert play is not None
    assert play.tell(m.Fired("expire", play.job.attempt)).outcome.code == "stale_report"
    assert play.tell(m.Forget()).outcome.code == "job_active"


def test_an_expired_job_hears_no_command_any_more() -> None:
    play = ended()
    play.tell(m.Forget())
    for command in (m.Cancel(), m.Retry(), m.Forget()):
        assert play.tell(command).outcome.code == "job_expired"


def test_a_forget_with_another_seq_than_the_jobs_is_refused() -> None:
    play = ended()
    assert play.tell(m.Forget(if_match=1)).outcome.code == "precondition_failed"
