"""ARQ with a store of its own: each stage writes two fields of the job's hash and enqueues the next one."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from typing import Any, ClassVar

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import default_queue_name

from benchmarks.contest import SLOTS, STAGES, not_installed, rate
from benchmarks.stand import Stand

ABREAST = 40


async def nothing(context: dict[str, Any], job: str, stage: int) -> None:
    """A stage: two reports, then the next stage."""
    store: ArqRedis = context["redis"]
    for number in (1, 2):
        await store.hset(f"job:{job}", f"{STAGES[stage]}.progress", number / 2)
    if stage + 1 < len(STAGES):
        await store.enqueue_job("nothing", job, stage + 1, _job_id=f"{job}:{stage + 1}")


class WorkerSettings:
    """One job at a time. ARQ looks into its queue twice a second unless told otherwise: here it looks at once."""

    functions: ClassVar = [nothing]
    redis_settings = RedisSettings(unix_socket_path=os.environ.get("BENCH_REDIS"))
    max_jobs = 1
    poll_delay = 0.005


class ArqChain:
    """Two processes, one job at a time in each."""

    name = "ARQ, a HSET a report"
    note = "three jobs in a row, poll_delay 5 ms"

    def missing(self, _stand: Stand) -> str:
        """Whether it is installed."""
        return not_installed("arq")

    def jobs_per_second(self, stand: Stand, jobs: int) -> float:
        """See Contestant."""
        client, handed_in = stand.journal.client(), 0

        def hand_in(count: int) -> None:
            nonlocal handed_in
            asyncio.run(_submit(str(stand.journal.socket), range(handed_in, handed_in + count)))
            handed_in += count

        def done() -> int:  # a job leaves the queue when it is over, and has enqueued the next one before that
            return handed_in - int(client.zcard(default_queue_name))

        command = [sys.executable, "-m", "arq", f"{__name__}.WorkerSettings"]
        with ExitStack() as workers:
            for _ in range(SLOTS):
                workers.enter_context(stand.process(command, stand.peer_environment()))
            return rate(jobs, hand_in, done)


async def _submit(socket: str, numbers: range) -> None:
    pool = await create_pool(RedisSettings(unix_socket_path=socket))
    try:
        for start in range(numbers.start, numbers.stop, ABREAST):
            page = range(start, min(start + ABREAST, numbers.stop))
            await asyncio.gather(*(pool.enqueue_job("nothing", str(n), 0, _job_id=f"{n}:0") for n in page))
    finally:
        await pool.aclose()
