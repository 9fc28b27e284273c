"""Webhooks by the rules: each end is told of, in order, under one id and with one body, until it is settled (I20)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Policy
from callsheet.jobs.effects import Deliver, KeepSecret
from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide
from callsheet.jobs.told import message_id, payload
from callsheet.jobs.webhooks import MAX_KEPT, MAX_PENDING, MAX_REQUESTS, pending
from tests.jobs.kit import HOOK, START, Play, body, in_status, submission, types

ONE = (StageSpec("a"),)
SHORT = Policy(webhook_delays=(1_000, 10_000))


def ended(policy: Policy | None = None) -> Play:
    """A job that has just completed, and whose client is to be told."""
    play = Play(ONE, policy, callback_url=HOOK)
    play.succeed("a")
    return play


def end_again(play: Play) -> None:
    play.tell(m.Retry())
    play.succeed("a")


def deliveries(play: Play) -> list[tuple[int, str]]:
    return [(w.seq, w.status) for w in play.job.webhooks]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_each_end_of_a_job_is_delivered(status: str) -> None:
    play = in_status(status, HOOK)
    assert play is not None
    (webhook,) = play.job.webhooks
    assert play.deliveries == [Deliver(webhook.seq, 1)]
    assert (webhook.seq, webhook.event) == (play.job.seq, f"Job{status.capitalize()}")
    decision = play.delivered()
    assert types(decision) == ["WebhookDelivered"]
    assert (play.job.status, deliveries(play)) == (status, [(webhook.seq, "delivered")])
    assert (play.deliveries, list(play.timers)) == ([], ["expire"])


def test_a_job_without_a_callback_delivers_nothing() -> None:
    play = in_status("completed")
    assert play is not None
    assert (play.deliveries, play.job.webhooks) == ([], ())
    assert play.tell(m.Redeliver()).outcome.code == "nothing_to_deliver"


def test_a_delivery_is_tried_eight_times_over_more_than_a_day_and_given_up_visibly() -> None:
    play, begun = ended(), 0
    play.jitter = 0.5
    for n in range(1, 8):
        begun = begun or play.now
        decision = play.undelivered("refused")
        assert types(decision) == ["WebhookFailed"]
        assert body(decision, e.WebhookFailed).n == n
        assert play.job.webhooks[0].next_try_at == body(decision, e.WebhookFailed).next_try_at
        play.fire(f"webhook:{play.job.webhooks[0].seq}")
    decision = play.undelivered("refused")
    assert body(decision, e.WebhookFailed).n == 8
    assert types(decision) == ["WebhookFailed", "WebhookGivenUp"]
    assert body(decision, e.WebhookGivenUp).reason == "exhausted"
    hours = (play.now - begun) / 3_600_000
    assert 27 < hours < 27.6 * 1.2
    (webhook,) = play.job.webhooks
    assert (webhook.status, webhook.tries, webhook.code, webhook.next_try_at) == ("given_up", 8, "refused", None)
    assert play.deliveries == []


def test_a_receiver_that_is_gone_is_not_asked_again() -> None:
    play = ended()
    decision = play.undelivered("gone")
    assert types(decision) == ["WebhookFailed", "WebhookGivenUp"]
    assert body(decision, e.WebhookGivenUp).reason == "gone"


def test_a_later_end_waits_until_the_earlier_one_is_settled() -> None:
    play = ended(SHORT)
    first = play.job.seq
    play.undelivered()
    end_again(play)
    second = play.job.seq
    assert deliveries(play) == [(first, "pending"), (second, "pending")]
    assert play.deliveries == []
    play.fire(f"webhook:{first}")
    assert play.deliveries == [Deliver(first, 2)]
    play.delivered()
    assert play.deliveries == [Deliver(second, 1)]
    play.undelivered("gone")
    assert deliveries(play) == [(first, "delivered"), (second, "given_up")]


def test_webhooks_go_on_while_the_next_attempt_runs_and_leave_its_status_alone() -> None:
    play = ended(SHORT)
    play.tell(m.Retry())
    play.claim("a")
    decision = play.undelivered()
    assert (types(decision), decision.events[0].attempt, play.job.status) == (["WebhookFailed"], 2, "running")
    play.tell(m.Cancel())
    play.fire(f"webhook:{play.job.webhooks[0].seq}")
    play.delivered()
    assert play.job.status == "cancelling"


def test_an_outcome_counts_once_and_only_for_the_try_that_is_under_way() -> None:
    play = ended()
    seq = play.job.seq
    for stale in (m.Delivered(seq, 2, 200, 0.1), m.Delivered(seq - 1, 1, 200, 0.1), m.DeliveryFailed(seq, 0, "x")):
        assert play.tell(stale).outcome.code == "stale_report"
    play.delivered()
    assert play.tell(m.Delivered(seq, 1, 200, 0.1)).outcome.code == "stale_report"
    assert play.tell(m.Fired(f"webhook:{seq}", 2)).outcome.code == "stale_report"


def test_a_try_that_was_put_off_is_made_later_and_is_no_event() -> None:
    play = ended()
    seq = play.job.seq
    effect = play.deliveries.pop()
    assert play.tell(m.DeliveryPostponed(seq, 1)).events == ()
    assert play.timers[f"webhook:{seq}"].due - play.now == 5 * 60_000
    play.fire(f"webhook:{seq}")
    assert play.deliveries == [effect]


def test_a_redelivery_is_the_same_webhook_with_new_tries() -> None:
    play = ended(SHORT)
    seq = play.job.seq
    play.undelivered("gone")
    assert types(play.tell(m.Redeliver())) == ["WebhookRequested"]
    assert play.deliveries == [Deliver(seq, 2)]
    for n in (2, 3):
        play.undelivered()
        play.fire(f"webhook:{seq}")
        assert play.deliveries == [Deliver(seq, n + 1)]
    assert types(play.undelivered()) == ["WebhookFailed", "WebhookGivenUp"]
    play.tell(m.Redeliver(seq))
    play.delivered()
    assert (play.job.webhooks[0].status, play.job.webhooks[0].tries) == ("delivered", 5)


def test_asking_again_hurries_a_try_that_waits_and_is_refused_while_one_is_made() -> None:
    play = ended()
    seq = play.job.seq
    assert play.tell(m.Redeliver()).outcome.code == "webhook_under_way"
    play.undelivered()
    late = play.ring(f"webhook:{seq}")
    assert play.tell(m.Redeliver()).outcome.ok
    assert (play.deliveries, f"webhook:{seq}" in play.timers) == ([Deliver(seq, 2)], False)
    assert play.tell(m.Redeliver()).outcome.code == "webhook_under_way"
    play.deliver(late)
    assert play.deliveries == [Deliver(seq, 2)], "the timer that was overtaken makes no second try"


def test_any_end_that_is_remembered_can_be_asked_for_and_no_other() -> None:
    play = ended()
    first = play.job.seq
    play.delivered()
    end_again(play)
    assert play.tell(m.Redeliver(first)).outcome.code == "webhook_under_way", "the second is"
    play.delivered()
    assert play.tell(m.Redeliver(first + 1)).outcome.code == "nothing_to_deliver"
    assert play.tell(m.Redeliver(if_match=1)).outcome.code == "precondition_failed"
    play.tell(m.Redeliver(first))
    assert play.deliveries == [Deliver(first, 2)]


def test_one_delivery_can_be_asked_for_only_so_often() -> None:
    play = ended()
    play.delivered()
    for _ in range(MAX_REQUESTS):
        assert play.tell(m.Redeliver()).outcome.ok
        play.delivered()
    assert play.tell(m.Redeliver()).outcome.code == "redelivered_too_often"


def test_what_a_job_remembers_is_bounded_and_the_oldest_is_given_up_for_the_newest() -> None:
    play = ended()
    first = play.job.seq
    play.undelivered()
    for _ in range(MAX_PENDING):
        end_again(play)
    assert play.watch.events[-1].data == e.WebhookGivenUp(first, "too_many_waiting")
    assert play.deliveries == [Deliver(play.job.webhooks[1].seq, 1)]
    assert len(pending(play.job)) == MAX_PENDING
    for _ in range(MAX_PENDING):
        play.delivered()
    for _ in range(MAX_KEPT):
        end_again(play)
        play.delivered()
    assert len(play.job.webhooks) == MAX_KEPT
    assert {w.status for w in play.job.webhooks} == {"delivered"}


def test_no_end_is_given_up_untried_a_retry_waits_for_the_first_try_of_the_oldest() -> None:
    play = ended()
    first = play.job.seq
    for _ in range(MAX_PENDING - 1):
        end_again(play)
    assert play.tell(m.Retry()).outcome.code == "webhook_under_way"
    play.undelivered()
    end_again(play)
    assert deliveries(play)[:2] == [(first, "given_up"), (play.job.webhooks[1].seq, "pending")]
    assert play.tell(m.Retry()).outcome.code == "webhook_under_way", "the next one was not tried either"
    play.delivered()
    end_again(play)
    assert len(pending(play.job)) == MAX_PENDING


@pytest.mark.parametrize("why", ["retention", "forgotten"])
def test_a_job_that_goes_gives_its_webhooks_up_before(why: str) -> None:
    play = ended()
    end_again(play)
    play.undelivered()
    decision = play.tell(m.Forget()) if why == "forgotten" else play.fire("expire")
    assert types(decision) == ["WebhookGivenUp", "WebhookGivenUp", "JobExpired"]
    told: list[Any] = [event.data for event in decision.events]
    assert {event.reason for event in told} == {why}
    assert play.timers == {}
    assert play.tell(m.Delivered(3, 2, 200, 0.1)).outcome.code == "stale_report"
    assert play.tell(m.Redeliver()).outcome.code == "job_expired"


def test_a_secret_of_the_jobs_own_is_kept_from_the_submission_on_and_is_in_no_event() -> None:
    message = submission(ONE, callback_url=HOOK)
    with_secret = msgspec.structs.replace(message, callback_own_secret=True)
    assert KeepSecret() in decide(None, with_secret, START).effects
    assert KeepSecret() not in decide(None, message, START).effects


def test_the_body_names_the_end_and_is_the_same_whatever_happened_since() -> None:
    play = ended()
    event = play.watch.events[-1]
    told = payload(play.job, event)
    assert json.loads(told) == {
        "type": "job.completed",
        "timestamp": event.at,
        "data": {
            "id": "j1",
            "pipeline": "demo",
            "status": "completed",
            "attempt": 1,
            "seq": event.seq,
            "error": None,
            "created_at": play.job.created_at,
            "ended_at": event.at,
            "expires_at": play.job.expires_at,
            "url": "/v1/jobs/j1",
        },
    }
    play.now += 1_000
    play.tell(m.Retry(params={"x": 1}))
    play.fail("a")
    assert payload(play.job, event) == told
    failed = json.loads(payload(play.job, play.watch.events[-1]))
    assert (failed["type"], failed["data"]["error"]["stage"], failed["data"]["attempt"]) == ("job.failed", "a", 2)
    assert "." not in message_id("j1", event.seq), "the signed content is delimited by full stops"


def test_a_job_written_before_there_were_webhooks_is_read_and_goes_on() -> None:
    play = Play(ONE)
    old = msgspec.to_builtins(play.job)
    for member in ("callback_url", "callback_own_secret", "webhooks"):
        del old[member]
    assert msgspec.convert(old, Job) == play.job
    raw = json.loads(e.encode_event(play.watch.events[0]))
    for member in ("callback_url", "callback_own_secret"):
        del raw["data"][member]
    assert e.decode_event(json.dumps(raw).encode()) == play.watch.events[0]
    assert m.decode_message(b'{"type":"Redeliver"}') == m.Redeliver()


MOVES = ["delivered", "timeout", "gone", "postponed", "again", "timer", "retry", "end", "redeliver", "cancel"]


@given(st.lists(st.sampled_from(MOVES), max_size=60), st.data())
def test_whatever_happens_in_whatever_order_deliveries_stay_in_order_and_end(
    moves: list[str], data: st.DataObject
) -> None:
    """The order, the bounds and that something is always about to happen are checked at each step: invariants.py."""
    play = ended(SHORT)
    done: list[Deliver] = []
    for move in moves:
        _move(play, move, done, data)
    for _ in range(200):  # then the receiver is there again
        if not pending(play.job):
            break
        if play.late:
            play.deliver(play.late[0])
        elif play.deliveries:
            play.delivered()
        else:
            play.fire(next(timer for timer in play.timers if timer.startswith("webhook:")))
    assert pending(play.job) == []
    ends = [event.seq for event in play.watch.events if event.type in e.TERMINAL_EVENTS]
    assert [w.seq for w in play.job.webhooks] == ends[-MAX_KEPT:]
    first_settled = list(dict.fromkeys(_settled(play.watch.events)))
    assert first_settled == ends


def _settled(events: list[e.Event]) -> list[int]:
    return [ev.data.webhook for ev in events if isinstance(ev.data, e.WebhookDelivered | e.WebhookGivenUp)]


def _move(play: Play, move: str, done: list[Deliver], data: st.DataObject) -> None:
    webhook_timers = [timer for timer in play.timers if timer.startswith("webhook:")]
    match move:
        case "timer" if webhook_timers:
            play.fire(data.draw(st.sampled_from(webhook_timers)))
        case "retry":
            play.tell(m.Retry())
        case "cancel":
            play.tell(m.Cancel())
        case "end" if play.stage("a").status in ("dispatched", "running"):
            play.succeed("a")
        case "redeliver":
            play.tell(m.Redeliver(data.draw(st.sampled_from([None, *(w.seq for w in play.job.webhooks)]))))
        case "again" if done:
            play.tell(_outcome("delivered", data.draw(st.sampled_from(done))))
        case "delivered" | "timeout" | "gone" | "postponed" if play.deliveries:
            effect = play.deliveries.pop(data.draw(st.integers(0, len(play.deliveries) - 1)))
            done.append(effect)
            play.tell(_outcome(move, effect))


def _outcome(move: str, effect: Deliver) -> Any:
    if move == "delivered":
        return m.Delivered(effect.webhook, effect.n, 200, 0.1)
    if move == "postponed":
        return m.DeliveryPostponed(effect.webhook, effect.n)
    return m.DeliveryFailed(effect.webhook, effect.n, move, 500, 0.1)
