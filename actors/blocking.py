"""The same client for callers that have no event loop: worker threads, scripts, tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from callsheet.actors.client import EventEntry, Jobs
from callsheet.jobs.draft import Outcome
from callsheet.jobs.job import Job, StageState
from callsheet.jobs.messages import Message

T = TypeVar("T")


class BlockingJobs:
    """`Jobs` run by a loop in a thread of its own. Methods block, and may be called from any thread."""

    def __init__(self, redis_url: str, *, partitions: int = 16, reply_timeout: float = 2.0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobs-client", daemon=True)
        self._thread.start()
        self._jobs = self._run(_make(redis_url, partitions, reply_timeout))

    def tell(self, job: str, message: Message, mid: str | None = None) -> None:
        """See Jobs.tell."""
        self._run(self._jobs.tell(job, message, mid))

    def ask(self, job: str, message: Message, mid: str | None = None, timeout: float | None = None) -> Outcome:
        """See Jobs.ask."""
        return self._run(self._jobs.ask(job, message, mid, timeout))

    def job(self, job: str) -> Job | None:
        """See Jobs.job."""
        return self._run(self._jobs.job(job))

    def stage(self, job: str, stage: str) -> tuple[str, StageState | None]:
        """See Jobs.stage."""
        return self._run(self._jobs.stage(job, stage))

    def events(self, job: str, after: int = 0, limit: int = 500) -> list[EventEntry]:
        """See Jobs.events."""
        return self._run(self._jobs.events(job, after, limit))

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._run(self._jobs.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _make(redis_url: str, partitions: int, reply_timeout: float) -> Jobs:
    return Jobs(redis_url, partitions=partitions, reply_timeout=reply_timeout)
