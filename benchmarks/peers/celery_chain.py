"""Celery: a chain of three tasks that tell their progress with update_state, results in Redis."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import celery
import redis

from benchmarks.contest import SLOTS, STAGES, few_at_a_time, not_installed, rate
from benchmarks.stand import Stand


def make_app(socket: str) -> tuple[celery.Celery, Any]:
    """The app on the Redis behind a socket, and the task that does nothing."""
    app = celery.Celery("chain", broker=f"redis+socket://{socket}", backend=f"redis+socket://{socket}")
    app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)

    @app.task(bind=True, name="nothing")
    def nothing(self: Any) -> None:
        for number in (1, 2):
            self.update_state(state="PROGRESS", meta={"progress": number / 2})

    return app, nothing


class CeleryChain:
    """One worker that forks two processes."""

    name = "Celery 5, a chain with progress"
    note = "update_state twice a task, results kept"

    def missing(self, _stand: Stand) -> str:
        """Whether it is installed."""
        return not_installed("celery")

    def jobs_per_second(self, stand: Stand, jobs: int) -> float:
        """See Contestant."""
        _, nothing = make_app(str(stand.journal.socket))
        client, last, handed_in = stand.journal.client(), dict[str, None](), 0

        def hand_in(count: int) -> None:
            nonlocal handed_in
            handed_in += count
            for _ in range(count):
                last[celery.chain(*(nothing.si() for _ in STAGES)).apply_async().id] = None

        def done() -> int:
            return handed_in - len(few_at_a_time(last, lambda ids: _succeeded(client, ids)))

        command = [sys.executable, "-m", "celery", "-A", f"{__name__}:worker_app", "worker", "-c", str(SLOTS)]
        command += ["-P", "prefork", "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with stand.process(command, stand.peer_environment()):
            return rate(jobs, hand_in, done)


def _succeeded(client: redis.Redis, ids: Sequence[str]) -> list[bool]:
    kept = cast("list[bytes | None]", client.mget([f"celery-task-meta-{task}" for task in ids]))
    return [b'"SUCCESS"' in (result or b"") for result in kept]


if socket := os.environ.get("BENCH_REDIS"):  # in a worker
    worker_app, _ = make_app(socket)
