"""commit.lua and journal: each answer it gives, and that a refusal changes no key at all."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from callsheet.actors import wire
from callsheet.actors.errors import CorruptRecord, MailboxFull
from callsheet.actors.journal import Journal, LostOwnershipError, OutboxItem
from callsheet.actors.keys import feed_channel
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Outcome
from callsheet.jobs.effects import decode_effect
from tests.actors.committing import KEYS, Stage
from tests.actors.kit import POLICY, START, as_hash, check_job, everything, submission
from tests.waiting import eventually


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


def _next(heard: Any) -> bytes:
    message = eventually(lambda: heard.get_message(timeout=1.0))
    return bytes(message["data"])
