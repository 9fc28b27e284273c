"""The same client for callers that have no event loop: worker threads, scripts, tests.

What it sends and reads is in wire.py, as for `Jobs`; only the waiting differs. (An event loop in a thread, with every
call handed over to it, did the same at five times the processor time a call, which was most of what a stage cost.)
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from callsheet.actors.errors import NoAnswer, Unavailable
from callsheet.actors.keys import PartitionKeys, partition_of
from callsheet.actors.snapshot import decode_job
from callsheet.actors.wire import (
    ANSWERS,
    CONNECTION,
    REDIS_AWAY,
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
        self._answers: Any = redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 1), **ANSWERS)
        self._of_this_thread = threading.local()

    def tell(self, job: str, message: Message, mid: str | None = None) -> None:
        """See Jobs.tell."""
        self._post(job, message, mid or secrets.token_hex(12), "")

    def ask(self, job: str, message: Message, mid: str | None = None, timeout: float | None = None) -> Outcome:
        """See Jobs.ask."""
        mid = mid or secrets.token_hex(12)
        answers = self._subscribed()
        self._post(job, message, mid, answers.channel)
        try:
            return answers.wait_for(mid.encode(), timeout or self._reply_timeout)
        except (NoAnswer, *REDIS_AWAY):  # a lost connection costs the answer, never the message
            self._of_this_thread.answers = None  # it may be lost without a word: the next question takes a new one
            raise NoAnswer from None

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
        """Close the connections."""
        self._redis.connection_pool.disconnect()
        self._answers.connection_pool.disconnect()

    def _post(self, job: str, message: Message, mid: str, reply: str) -> None:
        keys = self._partition(job)
        with unavailable():
            check_sent(self._send(*sending(keys, job, message, mid, reply)))

    def _partition(self, job: str) -> PartitionKeys:
        if not self._keys:
            with unavailable():
                self._keys = fixed_partitions(self._redis, self._wanted_partitions)
        return self._keys[partition_of(job, len(self._keys))]

    def _subscribed(self) -> _Answers:
        try:
            answers: _Answers | None = getattr(self._of_this_thread, "answers", None)
            if answers is None:
                answers = self._of_this_thread.answers = _Answers(self._answers.pubsub())
            answers.begin()
        except REDIS_AWAY as error:
            self._of_this_thread.answers = None
            raise Unavailable(str(error)) from error
        return answers


class _Answers:
    """The channel on which one thread is answered, one question at a time. It listens by itself: an answer that came
    by way of a thread that listens for all took two more turns of the interpreter's lock.
    """

    def __init__(self, pubsub: Any) -> None:
        self.channel = f"cs:reply:{secrets.token_hex(8)}"
        self._pubsub = pubsub
        self._heard = False

    def begin(self) -> None:
        """Be subscribed, on a connection that was not closed meanwhile."""
        if not self._heard:
            self._pubsub.subscribe(self.channel)
            self._heard = self._pubsub.get_message(timeout=SUBSCRIBE_SECONDS) is not None
        if not self._heard:
            raise redis.TimeoutError("no connection for answers")
        while self._pubsub.get_message(timeout=0.0):
            pass

    def wait_for(self, mid: bytes, seconds: float) -> Outcome:
        """The answer to the question of this name. Raises NoAnswer when it does not come, and RedisError."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._pubsub.get_message(timeout=left)
            if message and message["type"] == "message":
                answered, outcome = read_reply(message["data"])
                if answered == mid:
                    return outcome
        raise NoAnswer
