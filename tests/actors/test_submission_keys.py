"""What is laid down with a submission (receipt, place in the tenant's list, secret), and where it goes."""

from __future__ import annotations

from callsheet.actors import wire
from callsheet.actors.journal import Delivery
from callsheet.actors.keys import new_job_id
from callsheet.actors.snapshot import decode_job
from callsheet.jobs import messages as m
from tests.actors.committing import KEYS, Stage
from tests.actors.kit import POLICY, submission


def test_a_receipt_goes_with_the_commit_of_its_submission(stage: Stage) -> None:
    stage.client.set(KEYS.receipt(stage.id), "x")
    stage.claim()
    assert stage.client.exists(KEYS.receipt(stage.id))
    stage.deliver(submission(stage.id))
    assert not stage.client.exists(KEYS.receipt(stage.id))


def send(stage: Stage, message: m.Submit) -> Delivery:
    """A submission as an API sends it, with a secret."""
    keys, args = wire.sending(KEYS, stage.id, message, "m", "", secret="whsec_x")
    entry = stage.committer.run("send", keys, args)
    return Delivery(entry, stage.id, b"m", b"", message)


def is_listed(stage: Stage) -> bool:
    return stage.client.zscore(KEYS.index("t1"), stage.id) is not None


def test_what_a_submission_needs_is_there_for_as_long_as_it_waits_for_its_owner(stage: Stage) -> None:
    stage.id, stage.job = new_job_id(), None
    delivery = send(stage, submission(stage.id))
    assert is_listed(stage), "it is one of its tenant's jobs"
    left = [KEYS.receipt(stage.id), KEYS.callback_secret(stage.id)]
    assert [stage.client.ttl(key) for key in left] == [-1, -1], "the owner may be away for days"
    stage.commit(delivery)
    assert [stage.client.ttl(key) for key in left] == [-2, -1]
    assert is_listed(stage)


def test_a_refused_submission_leaves_no_receipt_and_no_secret_for_good(stage: Stage) -> None:
    stage.id, stage.job = new_job_id(), None
    assert stage.commit(send(stage, submission(stage.id, graph=()))) == []
    assert not stage.client.exists(KEYS.receipt(stage.id), KEYS.snapshot(stage.id))
    assert not is_listed(stage)
    assert 0 < stage.client.ttl(KEYS.callback_secret(stage.id)) <= 86_400


def test_of_two_submissions_that_wait_under_one_id_the_secret_of_the_one_that_becomes_the_job_is_kept(
    stage: Stage,
) -> None:
    stage.id, stage.job = new_job_id(), None
    stage.client.set(KEYS.callback_secret(stage.id), "whsec_of_one_that_was_refused", ex=60)
    send(stage, submission(stage.id))
    keys, args = wire.sending(KEYS, stage.id, submission(stage.id), "n", "", secret="whsec_late")
    stage.committer.run("send", keys, args)
    assert stage.client.get(KEYS.callback_secret(stage.id)) == b"whsec_x"


def aside(stage: Stage, delivery: Delivery, body: bytes) -> None:
    stage.journal.set_aside(delivery.entry, {b"job": stage.id.encode(), b"mid": b"m", b"body": body}, "because")


def test_a_submission_that_is_set_aside_does_not_read_as_waiting(stage: Stage) -> None:
    stage.id = new_job_id()
    delivery = send(stage, submission(stage.id))
    other = stage.put(m.Cancel())
    aside(stage, other, m.encode_message(other.message))
    assert stage.client.exists(KEYS.receipt(stage.id)), "another message of the job says nothing of its submission"
    aside(stage, delivery, b'{"type":"SubmitInAnotherWay","tenant":"t1"}')
    assert not stage.client.exists(KEYS.receipt(stage.id))
    assert not is_listed(stage)
    assert 0 < stage.client.ttl(KEYS.callback_secret(stage.id)) <= 86_400
    assert stage.client.xlen(KEYS.dead) == 2


def test_a_job_keeps_its_secret_though_its_submission_comes_again_and_is_set_aside(stage: Stage) -> None:
    stage.client.set(KEYS.callback_secret(stage.id), "whsec_own")
    delivery = send(stage, submission(stage.id))
    aside(stage, delivery, m.encode_message(delivery.message))
    assert not stage.client.exists(KEYS.receipt(stage.id))
    assert is_listed(stage)
    assert stage.client.ttl(KEYS.callback_secret(stage.id)) == -1
    assert stage.client.get(KEYS.callback_secret(stage.id)) == b"whsec_own"


def test_a_forgotten_job_leaves_a_tombstone_that_can_be_read_and_expires(stage: Stage) -> None:
    stage.deliver(m.Cancel(), "c")
    stage.deliver(m.Forget(), "f")
    stage.deliver(m.FilesRemoved())
    client = stage.client
    assert not client.exists(KEYS.log(stage.id))
    tombstone = decode_job(client.hgetall(KEYS.snapshot(stage.id)))
    assert tombstone is not None
    assert (tombstone.id, tombstone.status, tombstone.params, tombstone.stages) == (stage.id, "expired", {}, {})
    assert client.zscore(KEYS.index("t1"), stage.id) is None
    assert 0 < client.ttl(KEYS.snapshot(stage.id)) <= POLICY.tombstone // 1000
    assert (client.zcard(KEYS.timers), client.hlen(KEYS.tokens)) == (0, 0)
    stage.deliver(m.FilesRemoved())
    assert stage.commit(send(stage, submission(stage.id))) == []
    assert not client.exists(KEYS.log(stage.id), KEYS.callback_secret(stage.id))
    assert not is_listed(stage)


def test_a_job_that_is_submitted_again_while_it_is_forgotten_is_listed_until_that_is_decided(stage: Stage) -> None:
    stage.deliver(m.Cancel(), "c")
    stage.deliver(m.Forget(), "f")
    again = send(stage, submission(stage.id))
    stage.deliver(m.FilesRemoved())
    assert stage.client.exists(KEYS.receipt(stage.id))
    assert is_listed(stage)
    stage.commit(again)
    assert not stage.client.exists(KEYS.receipt(stage.id))
    assert not is_listed(stage)
