"""The broker of stages: Dramatiq on a Redis of its own, that needs no durability. It may lose and repeat dispatches.

What it loses as a whole is noticed by `generation`; what it delivers twice is turned away by the claim.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import redis
from dramatiq import Actor, Consumer, Message, MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from redis.backoff import NoBackoff
from redis.retry import Retry

from callsheet.actors.keys import BROKER_GENERATION

ACTOR = "run_stage"
HEARTBEAT_TIMEOUT = 10_000  # ms without a sign of a worker after which its messages go to others
EVERY_COMMAND = 1_000_000  # of a million: look for messages of dead workers with each command (default: one in 1,000)
ANSWER_SECONDS = 5.0


_Dramatiqs: Any = _RedisConsumer  # it has no annotations


class _Consumer(_Dramatiqs):  # type: ignore[misc]
    """Dramatiq's consumer, which looks for work the moment there is some and a slot is free. By itself it would sleep
    between two looks: a short sleep costs an idle worker a twentieth of a processor, a long one costs each stage.
    """

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout=0)  # of its sleep; the waits are here
        self._freed = threading.Event()
        self._seconds = timeout / 1000
        self._list = f"{broker.namespace}:{queue_name}"

    @property
    def outstanding_message_count(self) -> int:
        """What is taken from the queue and not over, also of what an earlier consumer of this process has taken."""
        return int(self.broker.handed_out[self.queue_name] + len(self.message_cache))

    def ack(self, message: MessageProxy) -> None:
        """See Consumer."""
        self._over(super().ack, message)

    def nack(self, message: MessageProxy) -> None:
        """See Consumer."""
        self._over(super().nack, message)

    def _over(self, say: Callable[[MessageProxy], None], message: MessageProxy) -> None:
        try:
            say(message)
        except ConnectionClosed:
            raise  # it is said again
        except BaseException:
            self.broker.count(self.queue_name, -1)
            raise
        self.broker.count(self.queue_name, -1)
        self._freed.set()

    def __next__(self) -> MessageProxy | None:
        self._freed.clear()  # before the look: what is freed after it is not slept through
        if self._full():
            self._freed.wait(self._seconds)
            if self._full():
                return None
        try:
            message = cast("MessageProxy | None", super().__next__())
            if message is not None:
                self.broker.count(self.queue_name, 1)
            else:
                self._wait_for_work()
        except (redis.ConnectionError, redis.TimeoutError) as error:  # one that stalls is away, too
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        return message

    def _wait_for_work(self) -> None:
        """Wait until something is in the queue. The move puts the first message back where it was: it is a blocking
        look, which takes nothing, wakes every idle worker, and leaves the fetch as it is."""
        self.broker.client.blmove(self._list, self._list, self._seconds, "LEFT", "LEFT")

    def _full(self) -> bool:
        return not self.message_cache and self.outstanding_message_count >= self.prefetch


class Broker(RedisBroker):
    """Dramatiq's broker without middleware: the owner of a job retries, times and orders stages, nobody else.

    It also finds again what a fetch took out of a queue when its answer was lost. Fetched messages belong to
    `broker_id` until that is silent for HEARTBEAT_TIMEOUT; so a consumer that starts again, as it does after any
    connection error, takes a new id, and the messages of the old one are delivered again.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=client, middleware=[], heartbeat_timeout=HEARTBEAT_TIMEOUT, maintenance_chance=EVERY_COMMAND
        )
        self._consumed: set[str] = set()
        self._counting = threading.Lock()
        self.handed_out: Counter[str] = Counter()  # queue -> what this process was handed, and has not said is over

    def count(self, queue_name: str, by: int) -> None:
        """One more was handed out, or one less."""
        with self._counting:
            self.handed_out[queue_name] += by

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """See RedisBroker."""
        if queue_name in self._consumed:
            self.broker_id = str(uuid4())
        self._consumed.add(queue_name)
        return super().consume(queue_name, prefetch, timeout)

    @property
    def consumer_class(self) -> type[_Consumer]:
        """What `consume` makes."""
        return _Consumer

    def close(self) -> None:
        """Close the connections."""
        self.client.connection_pool.disconnect()


def make_broker(url: str) -> Broker:
    """The broker at an address. It connects when it is used."""
    # redis-py would repeat a fetch whose answer is lost, and so lose what it took: here an error is an error.
    pool = redis.ConnectionPool.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=ANSWER_SECONDS, socket_connect_timeout=2.0
    )
    return Broker(redis.Redis(connection_pool=pool))


def dispatch(broker: RedisBroker, job: str, stage: str, token: int, queue: str) -> None:
    """Hand a dispatch to the workers of a queue. May be called from any thread, and repeated. Raises RedisError."""
    broker.enqueue(Message(queue_name=queue, actor_name=ACTOR, args=(job, stage, token), kwargs={}, options={}))


def generation(broker: RedisBroker) -> str:
    """Which life of the broker this is: another one means that it was emptied, or started again, perhaps from an older
    copy of itself. "" when it was emptied at this very moment. Raises RedisError.
    """
    broker.client.set(BROKER_GENERATION, secrets.token_hex(8), nx=True)
    found = cast(bytes | None, broker.client.get(BROKER_GENERATION))
    return f"{found.decode()}.{life(broker.client)}" if found else ""


def life(client: Any) -> str:
    """Which run of a Redis server answers: another one may have lost the last that was written. Raises RedisError."""
    return str(client.info("server")["run_id"])


def declare(broker: RedisBroker, queue: str, run: Callable[[str, str, int], None]) -> None:
    """Have `run(job, stage, token)` called for each dispatch on a queue, by a dramatiq.Worker of this broker."""
    Actor(run, broker=broker, actor_name=ACTOR, queue_name=queue, priority=0, options={})
