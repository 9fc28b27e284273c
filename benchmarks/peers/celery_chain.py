"""Celery: a chain of three tasks that tell their progress with update_state, results in Redis."""

from __future__ import annotations

import os
import sys
from typing import Any

import celery
import redis

from benchmarks.contest import SLOTS, STAGES, not_installed, rate
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
        client, last, over = stand.journal.client(), list[str](), 0

        def hand_in(count: int) -> None:
            for _ in range(count):
                last.append(celery.chain(*(nothing.si() for _ in STAGES)).apply_async().id)

        def done() -> int:
            nonlocal over
            for key, state in zip(list(last), _results(client, last), strict=True):
                if state and b'"SUCCESS"' in state:
                    last.remove(key)
                    over += 1
            return over

        command = [sys.executable, "-m", "celery", "-A", f"{__name__}:worker_app", "worker", "-c", str(SLOTS)]
        command += ["-P", "prefork", "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with stand.process(command, stand.peer_environment()):
            return rate(jobs, hand_in, done)


def _results(client: redis.Redis, ids: list[str]) -> list[bytes | None]:
    return list(client.mget([f"celery-task-meta-{task}" for task in ids])) if ids else []  # type: ignore[arg-type]


if socket := os.environ.get("BENCH_REDIS"):  # in a worker
    worker_app, _ = make_app(socket)
