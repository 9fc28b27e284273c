"""commit.lua and journal: each answer it gives, and that a refusal changes no key at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from callsheet.actors import wire
from callsheet.actors.committer import Committer
from callsheet.actors.errors import CorruptRecord, MailboxFull
from callsheet.actors.journal import Delivery, Journal, LostOwnershipError, OutboxItem
from callsheet.actors.keys import PartitionKeys, feed_channel, new_job_id
from callsheet.actors.snapshot import decode_job
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Decision, Outcome
from callsheet.jobs.effects import decode_effect
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide
from tests.actors.kit import POLICY, START, as_hash, check_job, everything, log_of, put, submission
from tests.servers import RedisServer
from tests.waiting import eventually

KEYS = PartitionKeys(3)


class Stage:
    """One job, its owner's view of it, and the journal under one epoch."""

    def __init__(self, url: str, client: Any) -> None:
        self.client = client
        self.committer = Committer(url)
        self.id = new_job_id()
        self.journal = self.taken_by("h1")
        self.job: Job | None = None
        self.deliver(submission(self.id))

    def taken_by(self, host: str) -> Journal:
        self.client.delete(KEYS.lease)
        epoch = int(self.committer.run("lease", [KEYS.lease, KEYS.epoch], ["take", host, 60_000, 0]))
        return Journal(self.committer, self.client, KEYS, epoch)

    def put(self, message: m.Message, mid: str = "", reply: str = "") -> Delivery:
        return put(self.client, KEYS, self.id, message, mid=mid, reply=reply)

    def decide(self, delivery: Delivery) -> Decision:
        return decide(self.job, delivery.message, START, 0.0, POLICY)

    def commit(self, delivery: Delivery, journal: Journal | None = None) -> list[OutboxItem] | None:
        """Decide on what is known of the job, commit, and know more."""
        decision = self.decide(delivery)
        outbox = (journal or self.journal).commit(self.job, delivery, decision, START)
        if outbox is not None:
            self.job = decision.job
        return outbox

    def deliver(self, message: m.Message, mid: str = "", reply: str = "") -> list[OutboxItem] | None:
        return self.commit(self.put(message, mid, reply))

    def claim(self, stage: str = "a") -> None:
        assert self.job
        self.deliver(m.Claim(stage, self.job.stages[stage].token, "w"))

    def log(self) -> list[str]:
        return [entry.type for entry in log_of(self.client, KEYS, self.id)]


@pytest.fixture
def stage(redis_url: str, journal_server: RedisServer) -> Iterator[Stage]:
    with journal_server.client() as client:
        stage = Stage(redis_url, client)
        yield stage
        stage.committer.stop()


def test_ok_writes_log_snapshot_outbox_and_index_and_takes_the_entry_out(stage: Stage) -> None:
    client = stage.client
    assert stage.log() == ["JobSubmitted", "StageDispatched"]
    assert stage.job is not None
    assert client.hgetall(KEYS.snapshot(stage.id)) == as_hash(stage.job)
    assert client.xlen(KEYS.mailbox) == 0
    assert client.hgetall(KEYS.outbox) == {
        f"{stage.id}|2".encode(): b'{"type":"Dispatch","stage":"a","token":2,"queue":"cpu"}'
    }
    assert client.zscore(KEYS.index("t1"), stage.id) == START


def test_the_ids_of_the_log_are_the_numbers_of_its_events(stage: Stage) -> None:
    stage.claim()
    ids = [entry for entry, _ in stage.client.xrange(KEYS.log(stage.id))]
    assert ids == [b"1-0", b"2-0", b"3-0"]


def test_fenced_an_older_epoch_changes_nothing(stage: Stage) -> None:
    old = stage.journal
    stage.taken_by("h2")
    delivery = stage.put(m.Cancel(), "m")
    before = everything(stage.client)
    with pytest.raises(LostOwnershipError, match="FENCED"):
        stage.commit(delivery, old)
    with pytest.raises(LostOwnershipError, match="FENCED"):
        old.set_aside(delivery.entry, {}, "why")
    assert everything(stage.client) == before


@pytest.mark.parametrize("epoch", [0, 2, "1 ", "01", -1, "x"])
def test_fenced_any_other_epoch_changes_nothing(stage: Stage, epoch: Any) -> None:
    delivery = stage.put(m.Cancel(), "m")
    before = everything(stage.client)
    with pytest.raises(LostOwnershipError, match="FENCED"):
        stage.commit(delivery, Journal(stage.committer, stage.client, KEYS, epoch))
    assert everything(stage.client) == before


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_conflict_a_view_of_another_seq_changes_nothing(stage: Stage, seq: int) -> None:
    delivery = stage.put(m.Cancel(), "m")
    decision = stage.decide(delivery)
    assert stage.job
    stale = msgspec.structs.replace(stage.job, seq=seq)
    before = everything(stage.client)
    with pytest.raises(LostOwnershipError, match="CONFLICT"):
        stage.journal.commit(stale if seq else None, delivery, decision, START)
    assert everything(stage.client) == before


def test_duplicate_an_entry_applied_before_changes_nothing(stage: Stage) -> None:
    assert stage.job
    delivery = stage.put(m.Claim("a", 2, "w"))
    stage.commit(delivery)
    before, job = everything(stage.client), stage.job
    assert stage.commit(delivery) is None
    assert (everything(stage.client), stage.job) == (before, job)


def test_repeat_a_command_is_applied_once_a_mid_and_answered_the_same_again(stage: Stage) -> None:
    for stage_name in ("a", "b"):
        stage.claim(stage_name)
        assert stage.job
        stage.deliver(m.Succeeded(stage_name, stage.job.stages[stage_name].token))
    with stage.client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("reply")
        eventually(lambda: stage.client.pubsub_numsub("reply")[0][1] == 1)
        first = stage.deliver(m.Retry(), "again", "reply")
        log = stage.log()
        assert log.count("JobRetried") == 1
        assert first
        entry = stage.put(m.Retry(), "again", "reply")
        before = everything(stage.client)
        assert stage.commit(entry) is None
        after = everything(stage.client)
        assert {key for key in before if before[key] != after.get(key)} == {KEYS.mailbox.encode()}
        answers = [_next(heard) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"again ")
    assert msgspec.json.decode(answers[0][6:], type=Outcome).ok
    assert stage.log() == log


def _next(heard: Any) -> bytes:
    message = eventually(lambda: heard.get_message(timeout=1.0))
    return bytes(message["data"])


def test_repeat_also_gives_a_refusal_again(stage: Stage) -> None:
    stage.deliver(m.Retry(), "m")
    assert stage.log() == ["JobSubmitted", "StageDispatched"]
    kept = stage.client.get(KEYS.seen(stage.id, "m"))
    assert msgspec.json.decode(kept, type=Outcome).code == "job_active"


def test_what_a_client_gave_a_name_to_is_known_for_a_day_and_other_commands_for_an_hour(stage: Stage) -> None:
    stage.deliver(m.Retry(), "m")
    stage.deliver(m.Retry(request="digest"), "named")
    seconds = [stage.client.ttl(KEYS.seen(stage.id, mid)) for mid in ("m", "named")]
    assert 3_000 < seconds[0] <= 3_600
    assert 80_000 < seconds[1] <= 86_400


def test_rearmed_a_timer_that_was_set_again_has_not_fired(stage: Stage) -> None:
    stage.claim()
    fired = stage.put(m.Fired("alive:a", 2))
    before = everything(stage.client)
    assert stage.client.zscore(KEYS.timers, f"{stage.id}|alive:a")
    assert stage.commit(fired) is None
    after = everything(stage.client)
    assert {key for key in before if before[key] != after.get(key)} == {KEYS.mailbox.encode()}
    assert stage.client.xlen(KEYS.mailbox) == 0


def test_corrupt_a_log_ahead_of_its_snapshot_changes_nothing(stage: Stage) -> None:
    stage.client.delete(KEYS.snapshot(stage.id))
    stage.job = None
    delivery = stage.put(submission(stage.id))
    before = everything(stage.client)
    with pytest.raises(CorruptRecord):
        stage.commit(delivery)
    assert everything(stage.client) == before


def test_a_claim_withdraws_the_dispatch_wherever_it_is(stage: Stage) -> None:
    (item,) = [OutboxItem(f"{stage.id}|2", stage.id, decode) for decode in [_dispatch(stage)]]
    stage.journal.performed(item, "g1")
    assert stage.client.hkeys(KEYS.outbox) == []
    assert stage.client.hget(KEYS.dispatched, item.id).startswith(b"g1 {")
    stage.claim()
    assert stage.client.hkeys(KEYS.dispatched) == []
    stage.journal.performed(item, "g1")  # the performer was slower than the claim
    assert (stage.client.hkeys(KEYS.outbox), stage.client.hkeys(KEYS.dispatched)) == ([], [])


def _dispatch(stage: Stage) -> Any:
    return decode_effect(stage.client.hget(KEYS.outbox, f"{stage.id}|2"))


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


def test_a_snapshot_tells_one_from_true(stage: Stage) -> None:
    """I2 to the byte, where Python's equality is too kind."""
    stage.deliver(m.Cancel(), "c1")
    stage.deliver(m.Retry(None, {"n": 1}), "r1")
    stage.deliver(m.Cancel(), "c2")
    stage.deliver(m.Retry(None, {"n": True}), "r2")
    assert check_job(stage.client, KEYS, stage.id).params == {"n": True}
    assert stage.client.hget(KEYS.snapshot(stage.id), "params") == b'{"n":true}'


def test_watchers_are_told_to_look_again_only_when_there_is_something_to_see(stage: Stage) -> None:
    heard: list[bytes] = []
    ready = threading.Event()
    done = threading.Event()

    def listen() -> None:
        with stage.client.pubsub(ignore_subscribe_messages=False) as channel:
            channel.subscribe(feed_channel(stage.id), "end")
            while not done.is_set():
                message = channel.get_message(timeout=0.1)
                if message and message["type"] == "message":
                    heard.append(message["channel"])
                    if message["channel"] == b"end":
                        return
                if channel.subscribed and message and message["channel"] == b"end":
                    ready.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert ready.wait(10)
    stage.claim()
    stage.deliver(m.Heartbeat("a", 2))
    stage.client.publish("end", "")
    listener.join(10)
    done.set()
    assert heard == [feed_channel(stage.id).encode(), b"end"]


def test_a_dead_letter_is_kept_in_part_and_the_asker_is_told(stage: Stage) -> None:
    with stage.client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("reply")
        eventually(lambda: stage.client.pubsub_numsub("reply")[0][1] == 1)
        entry = stage.client.xadd(KEYS.mailbox, {"job": stage.id, "mid": "m", "body": b"x" * 1_000_000})
        fields = {b"job": stage.id.encode(), b"mid": b"m", b"body": b"x" * 1_000_000, b"reply": b"reply"}
        stage.journal.set_aside(entry, fields, "because")
        mid, _, raw = _next(heard).partition(b" ")
    assert (mid, msgspec.json.decode(raw, type=Outcome).code) == (b"m", "message_rejected")
    ((_, letter),) = stage.client.xrange(KEYS.dead)
    assert (letter[b"job"], letter[b"why"], letter[b"body"]) == (stage.id.encode(), b"because", b"x" * 16_384)
    assert stage.client.xlen(KEYS.mailbox) == 0


def test_a_full_mailbox_refuses_what_the_host_itself_sends_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MAILBOX", 1)
    stage.put(m.Cancel())
    with pytest.raises(MailboxFull):
        stage.journal.post(stage.id, m.FilesRemoved())
    assert stage.client.xlen(KEYS.mailbox) == 1


def test_timers_are_set_by_the_servers_clock_whatever_the_hosts_says(stage: Stage) -> None:
    assert START < 1_750_000_000_000, "the clock of these tests is far from the server's"
    stage.claim()
    seconds, micros = stage.client.time()
    due = stage.client.zscore(KEYS.timers, f"{stage.id}|alive:a") - (seconds * 1000 + micros // 1000)
    assert POLICY.lost_after - 5_000 < due <= POLICY.lost_after
