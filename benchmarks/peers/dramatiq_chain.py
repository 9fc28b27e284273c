"""Bare Dramatiq: three messages in a row. Nobody knows how far a job is, or that it was there."""

from __future__ import annotations

import os
import sys

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from benchmarks.contest import SLOTS, STAGES, rate
from benchmarks.stand import Stand

QUEUE = "chain"


def _broker(path: str) -> RedisBroker:
    return RedisBroker(client=redis.Redis(unix_socket_path=path))


def declare(broker: RedisBroker) -> dramatiq.Actor[[str], None]:
    """The stage, three times the same."""

    @dramatiq.actor(broker=broker, queue_name=QUEUE, actor_name="nothing")
    def nothing(_job: str) -> None:
        pass

    return nothing


class DramatiqChain:
    """Two processes of one thread."""

    name = "Dramatiq alone"
    note = "three messages in a row; no state, no progress"

    def missing(self, _stand: Stand) -> str:
        """We stand on it ourselves."""
        return ""

    def jobs_per_second(self, stand: Stand, jobs: int) -> float:
        """See Contestant."""
        broker = _broker(str(stand.journal.socket))
        nothing, handed_in = declare(broker), 0

        def hand_in(count: int) -> None:
            nonlocal handed_in
            handed_in += count
            for number in range(count):
                first, *rest = (nothing.message_with_options(args=(str(number),), pipe_ignore=True) for _ in STAGES)
                dramatiq.pipeline([first, *rest], broker=broker).run()

        def done() -> int:  # a message is there until it is acknowledged, and the next one is sent before that
            return handed_in - int(broker.client.hlen(f"dramatiq:{QUEUE}.msgs"))

        with stand.process(
            [sys.executable, "-m", "dramatiq", __name__, "-p", str(SLOTS), "-t", "1", "--skip-logging"],
            {**stand.peer_environment(), "dramatiq_worker_timeout": "20"},
        ):
            return rate(jobs, hand_in, done)


if socket := os.environ.get("BENCH_REDIS"):  # in a worker
    broker = _broker(socket)
    dramatiq.set_broker(broker)
    declare(broker)
