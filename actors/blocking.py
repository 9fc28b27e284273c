"""The same client for callers that have no event loop: worker threads, scripts, tests.

What it sends and reads is in wire.py, as for `Jobs`; only the waiting differs. (An event loop in a thread, with every
call handed over to it, did the same at five times the processor time a call, which was most of what a stage cost.)
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from concurrent.futures import Future
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from callsheet.actors.errors import NoAnswer, Unavailable
from callsheet.actors.keys import PartitionKeys, partition_of
from callsheet.actors.snapshot import decode_job
from callsheet.actors.wire import (
    CONNECTION,
    SEND,
    EventEntry,
    check_sent,
    fixed_partitions,
    read_entries,
    read_reply,
    read_stage,
    sending,
    unavailable,
)
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import Job, StageState
from callsheet.jobs.messages import Message

LISTEN_SECONDS = 1.0  # how long the listener may take to notice that it is to end
SUBSCRIBE_SECONDS = 2.0


class BlockingJobs:
    """Every job, by id. Methods block, and may be called from any thread."""

    def __init__(self, redis_url: str, *, partitions: int = 16, reply_timeout: float = 2.0) -> None:
        pool: Any = redis.BlockingConnectionPool.from_url(redis_url, retry=Retry(NoBackoff(), 1), **CONNECTION)
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._send = self._redis.register_script(SEND)
        self._reply_timeout = reply_timeout
        self._wanted_partitions = partitions
        self._keys: list[PartitionKeys] = []
        self._reply_channel = f"cs:reply:{secrets.token_hex(8)}"
        self._pending: dict[bytes, Future[Outcome]] = {}
        self._closing = threading.Event()
        self._listening = threading.Event()
        self._listener = threading.Thread(target=self._read_replies, name="replies", daemon=True)
        self._starting = threading.Lock()

    def tell(self, job: str, message: Message, mid: str | None = None) -> None:
        """See Jobs.tell."""
        self._post(job, message, mid or secrets.token_hex(12), "")

    def ask(self, job: str, message: Message, mid: str | None = None, timeout: float | None = None) -> Outcome:
        """See Jobs.ask."""
        self._listen()
        mid = mid or secrets.token_hex(12)
        future = self._pending[mid.encode()] = Future()
        try:
            self._post(job, message, mid, self._reply_channel)
            return future.result(timeout or self._reply_timeout)
        except TimeoutError:
            raise NoAnswer from None
        finally:
            self._pending.pop(mid.encode(), None)

    def job(self, job: str) -> Job | None:
        """See Jobs.job."""
        keys = self._partition(job)
        with unavailable():
            return decode_job(self._redis.hgetall(keys.snapshot(job)))

    def stage(self, job: str, stage: str) -> tuple[str, StageState | None]:
        """See Jobs.stage."""
        keys = self._partition(job)
        with unavailable():
            return read_stage(*self._redis.hmget(keys.snapshot(job), ["status", f"stage.{stage}"]))

    def events(self, job: str, after: int = 0, limit: int = 500) -> list[EventEntry]:
        """See Jobs.events."""
        keys = self._partition(job)
        with unavailable():
            return read_entries(self._redis.xrange(keys.log(job), min=f"({after}", max="+", count=limit))

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._closing.set()
        if self._listener.is_alive():
            self._listener.join(2 * LISTEN_SECONDS)
        self._redis.connection_pool.disconnect()

    def _post(self, job: str, message: Message, mid: str, reply: str) -> None:
        keys = self._partition(job)
        with unavailable():
            check_sent(self._send(*sending(keys, job, message, mid, reply)))

    def _partition(self, job: str) -> PartitionKeys:
        if not self._keys:
            with unavailable():
                self._keys = fixed_partitions(self._redis, self._wanted_partitions)
        return self._keys[partition_of(job, len(self._keys))]

    # -- replies

    def _listen(self) -> None:
        with self._starting:
            if not self._listener.is_alive() and not self._closing.is_set():
                self._listener.start()
        if not self._listening.wait(SUBSCRIBE_SECONDS):
            raise Unavailable("no connection for replies")

    def _read_replies(self) -> None:
        """Hand each reply to the one who asked. A lost connection costs answers (NoAnswer), never a message."""
        while not self._closing.is_set():
            pubsub = self._redis.pubsub()
            try:
                pubsub.subscribe(self._reply_channel)
                while not self._closing.is_set():
                    self._hear(pubsub.get_message(timeout=LISTEN_SECONDS))
            except (RedisError, OSError):
                self._listening.clear()
                self._closing.wait(0.2)
            finally:
                self._listening.clear()
                with contextlib.suppress(RedisError, OSError):
                    pubsub.close()

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message and message["type"] == "subscribe":
            self._listening.set()
        elif message and message["type"] == "message":
            mid, outcome = read_reply(message["data"])
            future = self._pending.get(mid)
            if future and not future.done():
                future.set_result(outcome)
