"""The one way to a job, the same for HTTP, workers and internal callers: `tell`, `ask`, `job`, `events(after)`.

Writing means putting a message into the owner's mailbox; reading means reading what the owner committed. No method
here writes a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from callsheet.actors.clock import wall_clock
from callsheet.actors.errors import CorruptRecord, MailboxFull, NoAnswer, Unavailable
from callsheet.actors.failpoints import failpoint
from callsheet.actors.keys import PARTITIONS, PartitionKeys, new_job_id, partition_of
from callsheet.actors.snapshot import decode_job
from callsheet.actors.tasks import end_tasks
from callsheet.actors.wire import (
    CONNECTION,
    REDIS_AWAY,
    SEND,
    EventEntry,
    check_sent,
    partition_keys,
    read_entries,
    read_reply,
    read_stage,
    sending,
    unavailable,
)
from callsheet.config.checks import KEY_SECONDS
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import Job, StageState
from callsheet.jobs.messages import Message, Submit, Undecodable, decode_message
from callsheet.jobs.rules import as_submitted

MAX_PENDING_ASKS = 10_000
IDEMPOTENCY_SECONDS = KEY_SECONDS
QUIET_SECONDS = 5.0  # then the channel of replies is asked for a sign of life, which has as long to come


class Jobs:
    """Every job, by id. Start it inside a running loop; close it when done."""

    def __init__(self, redis_url: str, *, partitions: int = 16, reply_timeout: float = 2.0) -> None:
        # A command is tried again once, on a fresh connection: what it sends is made to be applied once (see `tell`).
        pool: Any = aioredis.BlockingConnectionPool.from_url(redis_url, retry=Retry(NoBackoff(), 1), **CONNECTION)
        self.redis: Any = aioredis.Redis(connection_pool=pool)
        self.reply_timeout = reply_timeout
        self._wanted_partitions = partitions
        self._keys: list[PartitionKeys] = []
        self._reply_channel = f"cs:reply:{secrets.token_hex(8)}"
        self._pending: dict[bytes, asyncio.Future[Outcome]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._send = self.redis.register_script(SEND)

    async def close(self) -> None:
        """Close the connections; whoever still waits for an answer gets none."""
        await end_tasks([self._listener] if self._listener else [])
        await self.redis.aclose(close_connection_pool=True)

    # -- writing

    async def tell(self, job: str, message: Message, mid: str | None = None) -> None:
        """Put a message into the job's mailbox: from here on it is never lost. Raises Unavailable or MailboxFull.

        `mid` names the message: repeat it with the same one after an Unavailable, within the hour, and it takes effect
        once.
        """
        await self._post(job, message, mid or secrets.token_hex(12), "")

    async def ask(
        self, job: str, message: Message, mid: str | None = None, timeout: float | None = None, secret: str = ""
    ) -> Outcome:
        """Like tell, and wait for the owner's outcome. Raises NoAnswer when it does not come within `timeout` s. A
        submission may bring the secret that is to sign the job's webhooks: no message holds it."""
        if len(self._pending) >= MAX_PENDING_ASKS:
            raise MailboxFull("too many requests wait for an answer")
        await self._listen()
        mid = mid or secrets.token_hex(12)
        # Two may ask under one name at once: each gets the answer to either.
        future = self._pending.setdefault(mid.encode(), asyncio.get_running_loop().create_future())
        try:
            await self._post(job, message, mid, self._reply_channel, secret)
            return await asyncio.wait_for(asyncio.shield(future), timeout or self.reply_timeout)
        except TimeoutError:
            raise NoAnswer from None
        finally:
            self._pending.pop(mid.encode(), None)

    async def job_id_for(self, tenant: str, idempotency_key: str | None) -> str:
        """An id for a new job: random, but always the same one for the same tenant and key (for a day)."""
        job = new_job_id()
        if idempotency_key is None:
            return job
        key = f"cs:idempotency:{tenant}:{idempotency_key}"
        with unavailable():
            await self.redis.set(key, job, nx=True, ex=IDEMPOTENCY_SECONDS)
            return str((await self.redis.get(key) or job.encode()).decode())

    async def _post(self, job: str, message: Message, mid: str, reply: str, secret: str = "") -> None:
        keys = await self._partition(job)
        failpoint("api.sending")
        with unavailable():
            check_sent(await self._send(*sending(keys, job, message, mid, reply, secret=secret)))
        failpoint("api.sent")

    # -- reading

    async def job(self, job: str) -> Job | None:
        """The job's snapshot. None when there is none (yet: see `submission`). Raises Unavailable, CorruptRecord."""
        keys = await self._partition(job)
        with unavailable():
            return decode_job(await self.redis.hgetall(keys.snapshot(job)))

    async def submission(self, job: str) -> Submit | None:
        """The accepted submission of a job whose owner has not written it yet."""
        keys = await self._partition(job)
        with unavailable():
            raw = await self.redis.get(keys.receipt(job))
        message = decode_message(raw) if raw else None
        return message if isinstance(message, Submit) else None

    async def known(self, job: str) -> Job | None:
        """The job as committed; or as submitted, while its owner has not written it. Raises like job."""
        if found := await self.job(job):
            return found
        if submission := await self.submission(job):
            return as_submitted(submission, wall_clock())
        return await self.job(job)  # its owner may have written it, and dropped the submission, between the two looks

    async def stage(self, job: str, stage: str) -> tuple[str, StageState | None]:
        """The status of a job and one of its stages; ("absent", None) where there is none."""
        keys = await self._partition(job)
        with unavailable():
            return read_stage(*await self.redis.hmget(keys.snapshot(job), ["status", f"stage.{stage}"]))

    async def events(self, job: str, after: int = 0, limit: int = 500) -> list[EventEntry]:
        """The events with a seq above `after`, in order, `limit` at most."""
        keys = await self._partition(job)
        with unavailable():
            return read_entries(await self.redis.xrange(keys.log(job), min=f"({after}", max="+", count=limit))

    async def jobs(
        self, tenant: str, limit: int = 50, before: tuple[int, str] | None = None
    ) -> tuple[list[Job], tuple[int, str] | None]:
        """A tenant's jobs, newest first, and the cursor of the next page (None at the end)."""
        newest = await self._newest(tenant, limit + 1, before)
        page = newest[:limit]
        found = await asyncio.gather(*(self._known_or_none(job) for _, job in page))
        more = page[-1] if len(newest) > limit else None
        return [job for job in found if job is not None], more

    async def count(self, tenant: str, besides: str) -> tuple[int, int]:
        """How many jobs of a tenant have not ended, and how many it has in all, besides this one."""
        keys, own = await self._all_partitions(), await self._partition(besides)
        pipe = self.redis.pipeline(transaction=False)
        for partition in keys:
            pipe.zcard(partition.open(tenant))
            pipe.zcard(partition.index(tenant))
        pipe.zscore(own.open(tenant), besides)  # last: if it ends meanwhile, it is counted once too often, not too few
        pipe.zscore(own.index(tenant), besides)
        with unavailable():
            *found, is_open, is_kept = await pipe.execute()
        return sum(found[::2]) - (is_open is not None), sum(found[1::2]) - (is_kept is not None)

    async def _newest(self, tenant: str, count: int, before: tuple[int, str] | None) -> list[tuple[int, str]]:
        keys = await self._all_partitions()
        pipe = self.redis.pipeline(transaction=False)
        top = f"{before[0]}" if before else "+inf"
        for partition in keys:
            # As many as share the cursor's millisecond may have been shown already: they are asked for again.
            pipe.zrevrangebyscore(partition.index(tenant), top, "-inf", start=0, num=count + 64, withscores=True)
        with unavailable():
            rows = await pipe.execute()
        all_rows = sorted(((int(at), job.decode()) for row in rows for job, at in row), reverse=True)
        return [row for row in all_rows if before is None or row < before][:count]

    async def _known_or_none(self, job: str) -> Job | None:
        try:
            return await self.known(job)
        except (CorruptRecord, Undecodable):
            return None

    async def ping(self) -> None:
        """Raise Unavailable unless the journal's Redis answers and every partition has an owner."""
        keys = await self._all_partitions()
        with unavailable():
            owned = await self.redis.exists(*(k.lease for k in keys))
        if owned < len(keys):
            raise Unavailable(f"{len(keys) - owned} of {len(keys)} partitions have no owner")

    # -- partitions and replies

    async def partitions(self) -> Sequence[PartitionKeys]:
        """The keys of every partition. Raises Unavailable."""
        return self._keys or await self._all_partitions()

    async def _partition(self, job: str) -> PartitionKeys:
        keys = self._keys or await self._all_partitions()
        return keys[partition_of(job, len(keys))]

    async def _all_partitions(self) -> Sequence[PartitionKeys]:
        if not self._keys:
            with unavailable():
                await self.redis.set(PARTITIONS, self._wanted_partitions, nx=True)
                self._keys = partition_keys(await self.redis.get(PARTITIONS))
        return self._keys

    async def _listen(self) -> None:
        if self._listener is None or self._listener.done():
            self._listening.clear()
            self._listener = asyncio.create_task(self._read_replies(), name="replies")
        try:
            await asyncio.wait_for(self._listening.wait(), 2.0)
        except TimeoutError:
            raise Unavailable("no connection for replies") from None

    async def _read_replies(self) -> None:
        """Hand each reply to the one who asked. A lost connection costs answers (NoAnswer), never a message."""
        async for message in subscription(self.redis, self._reply_channel, self._listening):
            mid, outcome = read_reply(message)
            future = self._pending.get(mid)
            if future and not future.done():
                future.set_result(outcome)


async def subscription(client: Any, channel: str, ready: asyncio.Event) -> AsyncIterator[bytes]:
    """The messages of a channel, over reconnects; `ready` is set while it is subscribed."""
    while True:
        pubsub = client.pubsub(ignore_subscribe_messages=False)
        try:
            await pubsub.subscribe(channel)
            heard = time.monotonic()
            while True:
                # Not `listen`, which would never look whether the connection still lives.
                message = await pubsub.get_message(timeout=QUIET_SECONDS)
                heard = time.monotonic() if message else heard
                if message and message["type"] == "subscribe":
                    ready.set()
                elif message and message["type"] == "message":
                    yield message["data"]
                elif time.monotonic() - heard > 2 * QUIET_SECONDS:
                    raise TimeoutError("the connection is dead, though nobody has closed it")
                elif time.monotonic() - heard >= QUIET_SECONDS:
                    await pubsub.ping()
        except REDIS_AWAY:
            await asyncio.sleep(0.2)
        finally:
            ready.clear()
            with contextlib.suppress(RedisError):
                await pubsub.aclose()
