"""Webhooks: a job tells its client's `callback_url` of each of its ends, in order, until it is heard or given up.

One delivery at a time is under way, that of the oldest end which is still pending; the others wait behind it. A try is
an effect, its outcome a message, and the wait for the next try a timer, so all of it survives a crash. None of this
changes the status of the job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.effects import Deliver
from callsheet.jobs.job import Job, Webhook
from callsheet.jobs.states import STALE

if TYPE_CHECKING:
    from callsheet.jobs.draft import Draft

MAX_PENDING = 10  # deliveries of a job that wait; the oldest is given up for one more, once it was tried
MAX_KEPT = 20  # deliveries a job remembers: those that are settled make room
MAX_REQUESTS = 100  # how often one delivery may be asked for again
JITTER = 0.2  # of a delay, added at most, so that what failed together is not tried together
POSTPONED = 5 * 60 * 1000  # ms, and up to twice that

# Codes of a refused Redeliver.
NOTHING_TO_DELIVER = "nothing_to_deliver"
UNDER_WAY = "webhook_under_way"
TOO_OFTEN = "redelivered_too_often"

GONE = "gone"  # the code of a try that was answered 410: the receiver wants no more of it


def pending(job: Job) -> list[Webhook]:
    """The deliveries that are not settled, oldest first; the first one is under way."""
    return [webhook for webhook in job.webhooks if webhook.status == "pending"]


def awaited(job: Job, seq: int, n: int) -> Webhook | None:
    """The delivery under way, if try `n` of the one of event `seq` is what it waits for."""
    waiting = pending(job)
    return waiting[0] if waiting and (waiting[0].seq, waiting[0].tries + 1) == (seq, n) else None


# -- rules


def announce(draft: Draft) -> None:
    """The job has just ended: its client is told, after what it is still to be told of earlier ends."""
    waiting = pending(draft.job)
    if len(waiting) > MAX_PENDING and waiting[0].tries:
        _give_up(draft, waiting[0], "too_many_waiting")
        _go_on(draft)
    elif len(waiting) == 1:
        _go_on(draft)


def no_room(job: Job) -> bool:
    """One more end would cost the oldest delivery its first try (I20), which is about to be made."""
    waiting = pending(job)
    return len(waiting) >= MAX_PENDING and not waiting[0].tries


def give_up_all(draft: Draft, reason: Literal["retention", "forgotten"]) -> None:
    """The job goes, and with it what a delivery would tell of."""
    for webhook in pending(draft.job):
        _give_up(draft, webhook, reason)


def delivered(draft: Draft, report: m.Delivered) -> str | None:
    """The receiver has it; the next one follows."""
    webhook = _current(draft, report)
    if webhook is None:
        return STALE
    draft.clear(_timer(webhook))
    draft.emit(e.WebhookDelivered(webhook.seq, report.n, report.status_code, report.duration))
    _go_on(draft)
    return None


def failed(draft: Draft, report: m.DeliveryFailed) -> str | None:
    """A try failed: the next one comes later, until there have been enough."""
    webhook = _current(draft, report)
    if webhook is None:
        return STALE
    delays = draft.policy.webhook_delays
    over = report.code == GONE or webhook.failures >= len(delays)
    delay = 0.0 if over else delays[webhook.failures] * (1 + JITTER * draft.jitter)
    retry_at = None if over else draft.time_after(delay)
    body = e.WebhookFailed(webhook.seq, report.n, report.code, report.status_code, report.duration, retry_at)
    draft.emit(body)
    if over:
        _give_up(draft, webhook, "gone" if report.code == GONE else "exhausted")
        _go_on(draft)
    else:
        draft.timer(_timer(webhook), report.n + 1, delay)
    return None


def postponed(draft: Draft, report: m.DeliveryPostponed) -> str | None:
    """The try was not made. It is no event: nothing has happened, and it may happen often."""
    webhook = _current(draft, report)
    if webhook is None:
        return STALE
    draft.timer(_timer(webhook), report.n, POSTPONED * (1 + draft.jitter))
    return None


def timer_fired(draft: Draft, fired: m.Fired) -> str | None:
    """It is time for the next try."""
    waiting = pending(draft.job)
    if not waiting or (fired.timer, fired.token) != (_timer(waiting[0]), waiting[0].tries + 1):
        return STALE
    _go_on(draft)
    return None


def redeliver(draft: Draft, message: m.Redeliver) -> str | None:
    """New tries for a delivery that is settled, or at once the next try of one that waits for it."""
    webhooks = draft.job.webhooks
    wanted = next((w for w in reversed(webhooks) if message.seq in (None, w.seq)), None)
    if wanted is None:
        return NOTHING_TO_DELIVER
    waiting = pending(draft.job)
    if waiting and (waiting[0] is not wanted or wanted.next_try_at is None):
        return UNDER_WAY
    if wanted.requests >= MAX_REQUESTS:
        return TOO_OFTEN
    draft.clear(_timer(wanted))
    draft.emit(e.WebhookRequested(wanted.seq))
    _go_on(draft)
    return None


RULES: dict[type[Any], Callable[[Draft, Any], str | None]] = {
    m.Delivered: delivered,
    m.DeliveryFailed: failed,
    m.DeliveryPostponed: postponed,
    m.Redeliver: redeliver,
}


def _current(draft: Draft, report: m.Delivered | m.DeliveryFailed | m.DeliveryPostponed) -> Webhook | None:
    """The delivery that the report is of, unless something else came of it meanwhile."""
    return awaited(draft.job, report.webhook, report.n)


def _go_on(draft: Draft) -> None:
    """Try the oldest delivery that is pending."""
    if waiting := pending(draft.job):
        draft.effect(Deliver(waiting[0].seq, waiting[0].tries + 1))


def _give_up(draft: Draft, webhook: Webhook, reason: e.WhyGivenUp) -> None:
    draft.clear(_timer(webhook))
    draft.emit(e.WebhookGivenUp(webhook.seq, reason))


def _timer(webhook: Webhook) -> str:
    return f"webhook:{webhook.seq}"


# -- what the events add up to


def begun(job: Job, event: e.Event) -> Job:
    """The job with a delivery of this terminal event, if somebody is to be told."""
    if job.callback_url is None:
        return job
    webhooks = (*job.webhooks, Webhook(event.seq, event.type))
    if len(webhooks) > MAX_KEPT:
        settled = next(w for w in webhooks if w.status != "pending")
        webhooks = tuple(w for w in webhooks if w is not settled)
    return replace(job, webhooks=webhooks)


def evolved(job: Job, event: e.Event) -> Job:
    """The job after an event of one of its deliveries."""
    data: Any = event.data
    webhooks = tuple(_evolved(w, data, event.at) if w.seq == data.webhook else w for w in job.webhooks)
    return replace(job, webhooks=webhooks)


def _evolved(webhook: Webhook, body: e.WebhookBody, at: str) -> Webhook:
    webhook = replace(webhook, next_try_at=None)
    match body:
        case e.WebhookDelivered(n=n, status_code=status):
            return replace(webhook, status="delivered", tries=n, code=None, status_code=status, settled_at=at)
        case e.WebhookFailed(n=n, code=code, status_code=status, next_try_at=then):
            failures = webhook.failures + 1
            return replace(webhook, tries=n, failures=failures, code=code, status_code=status, next_try_at=then)
        case e.WebhookGivenUp():
            return replace(webhook, status="given_up", settled_at=at)
        case e.WebhookRequested():
            requests = webhook.requests + 1
            return replace(webhook, status="pending", failures=0, requests=requests, settled_at=None)
