"""Delivers webhooks, in an event loop of its own: a receiver that is slow, hostile or gone holds up nobody else.

Each try reads what is to be told anew, so what was overtaken is not sent; resolves and checks the address anew, and
connects to what it checked. What came of it goes to the job as a message, and only then is the effect performed: a
host that dies in between leaves it in the outbox, and the next owner tries again, under the same id.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog

from callsheet.actors.committer import JournalDownError
from callsheet.actors.errors import MailboxFull
from callsheet.actors.failpoints import failpoint
from callsheet.actors.journal import OutboxItem
from callsheet.actors.ownership import Ownership
from callsheet.actors.tasks import end_tasks
from callsheet.actors.telemetry.metrics import WEBHOOKS
from callsheet.actors.webhooks.lanes import Lane, Lanes
from callsheet.actors.webhooks.post import Poster, Result, WebhookRequest
from callsheet.actors.webhooks.signing import of_job, of_tenant
from callsheet.actors.wire import REDIS_AWAY
from callsheet.jobs.effects import Deliver
from callsheet.jobs.events import decode_event
from callsheet.jobs.job import Job
from callsheet.jobs.messages import Delivered, DeliveryFailed, DeliveryPostponed
from callsheet.jobs.told import message_id, payload
from callsheet.jobs.webhooks import awaited

log = structlog.get_logger("host")
AT_ONCE, OF_A_TENANT, AT_A_DESTINATION = 256, 128, 4
WAITING, WAITING_IN_A_LANE = 5_000, 500
STOP_SECONDS = 5.0
PATIENCE_SECONDS = 1.0  # between tries to tell the job, or to read it, while the journal is away
AWAY = (*REDIS_AWAY, JournalDownError, MailboxFull)

Report = Delivered | DeliveryFailed | DeliveryPostponed


class Delivery(msgspec.Struct, frozen=True):
    """One try, as the outbox holds it."""

    owner: Ownership
    item: OutboxItem
    effect: Deliver


class Deliverer:
    """Takes deliveries from any thread, and makes them in one."""

    def __init__(self, client: Any, poster: Poster) -> None:
        self._redis = client
        self._poster = poster
        self._lanes: Lanes[Delivery] = Lanes(
            at_once=AT_ONCE,
            of_a_tenant=OF_A_TENANT,
            at_a_destination=AT_A_DESTINATION,
            waiting=WAITING,
            waiting_in_a_lane=WAITING_IN_A_LANE,
        )
        self._in_hand: dict[str, Ownership] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._loop = asyncio.new_event_loop()
        # Whoever is under way blocks one thread at most, to look up a name or to reach the journal.
        self._threads = ThreadPoolExecutor(AT_ONCE, "webhook")
        self._loop.set_default_executor(self._threads)
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhooks", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Deliveries that wait or are under way in this process; what waits for its time is not here but in timers."""
        return self._lanes.waiting + self._lanes.active

    def take(self, owner: Ownership, item: OutboxItem, effect: Deliver) -> None:
        """Make this try soon. Raises JournalDownError, CorruptRecord."""
        delivery = Delivery(owner, item, effect)
        job = _current(delivery)
        if job is None:
            owner.journal.performed(item)
        else:
            lane = Lane(job.tenant, _destination(job.callback_url or ""))
            self._loop.call_soon_threadsafe(self._join, lane, delivery)

    def drain(self, seconds: float) -> None:
        """Begin no more tries, and let those under way end, for so long at most."""
        deadline = time.monotonic() + seconds
        self._draining = True
        while self._lanes.active and time.monotonic() < deadline:
            time.sleep(0.02)

    def stop(self) -> None:
        """End at once. What is not done stays in the outbox."""
        self._draining = True
        try:
            asyncio.run_coroutine_threadsafe(end_tasks(list(self._tasks)), self._loop).result(STOP_SECONDS)
        except TimeoutError:  # it ends with the process, then
            log.warning("webhooks under way did not stop in time")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    # -- in the loop

    def _join(self, lane: Lane, delivery: Delivery) -> None:
        held = self._in_hand.get(delivery.item.id)
        if self._draining or (held is not None and not held.lost):
            return  # left to the next owner; or handed over twice, since an outbox may be looked through again
        self._in_hand[delivery.item.id] = delivery.owner
        if self._lanes.join(lane, delivery):
            self._start()
        else:
            self._spawn(self._postpone(delivery))

    def _start(self) -> None:
        """Begin whatever may begin."""
        while not self._draining and (started := self._lanes.start()):
            self._spawn(self._deliver(*started))

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, lane: Lane, delivery: Delivery) -> None:
        try:
            if (request := await self._prepare(delivery)) is not None:
                result = await self._poster.post(request)
                failpoint("webhook.sent")
                await self._finish(delivery, _report(delivery, lane, result))
        except Exception:  # a bug in one must not cost the others; it stays in the outbox, in plain sight
            log.exception("webhook failed", job=delivery.item.job)
        finally:
            self._lanes.end(lane)
            self._let_go(delivery)
            self._start()

    async def _postpone(self, delivery: Delivery) -> None:
        await self._finish(delivery, DeliveryPostponed(delivery.effect.webhook, delivery.effect.n))
        self._let_go(delivery)

    def _let_go(self, delivery: Delivery) -> None:
        if self._in_hand.get(delivery.item.id) is delivery.owner:
            del self._in_hand[delivery.item.id]

    async def _prepare(self, delivery: Delivery) -> WebhookRequest | None:
        """What to send; None when this try was overtaken or is the next owner's to make."""
        while not delivery.owner.lost:
            try:
                return await asyncio.to_thread(self._read, delivery)
            except AWAY:
                await asyncio.sleep(PATIENCE_SECONDS)
        return None

    def _read(self, delivery: Delivery) -> WebhookRequest | None:
        job = _current(delivery)
        if job is None:
            delivery.owner.journal.performed(delivery.item)
            return None
        keys, seq = delivery.owner.journal.keys, delivery.effect.webhook
        ((_, fields),) = self._redis.xrange(keys.log(job.id), f"{seq}-0", f"{seq}-0")
        signers = of_job(self._redis, keys, job.id) if job.callback_own_secret else of_tenant(self._redis, job.tenant)
        body = payload(job, decode_event(fields[b"e"]))
        return WebhookRequest(job.callback_url or "", message_id(job.id, seq), body, signers)

    async def _finish(self, delivery: Delivery, report: Report) -> None:
        """Tell the job, and take the effect out of the outbox; for as long as it takes, if it is still ours."""
        while True:
            try:
                await asyncio.to_thread(_tell, delivery, report)
                break
            except AWAY:
                if delivery.owner.lost:
                    break
                await asyncio.sleep(PATIENCE_SECONDS)


def _tell(delivery: Delivery, report: Report) -> None:
    delivery.owner.journal.post(delivery.item.job, report)
    failpoint("webhook.told")
    delivery.owner.journal.performed(delivery.item)


def _current(delivery: Delivery) -> Job | None:
    """The job, if this is the try that it waits for."""
    job = delivery.owner.journal.load(delivery.item.job)
    waits = job is not None and job.callback_url and awaited(job, delivery.effect.webhook, delivery.effect.n)
    return job if waits else None


def _destination(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or parts.scheme}"


def _report(delivery: Delivery, lane: Lane, result: Result) -> Report:
    webhook, n = delivery.effect.webhook, delivery.effect.n
    if result.code is None and result.status_code is not None:
        WEBHOOKS.labels("delivered").inc()
        return Delivered(webhook, n, result.status_code, result.duration)
    WEBHOOKS.labels("failed").inc()
    code = result.code or "internal"
    # The destination, not the address: what follows the host may be a secret of the receiver's.
    facts = {"job": delivery.item.job, "n": n, "destination": lane.destination, "status": result.status_code}
    log.info("webhook not delivered", code=code, **facts)
    return DeliveryFailed(webhook, n, code, result.status_code, result.duration)
