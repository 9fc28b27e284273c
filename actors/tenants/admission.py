"""Which jobs of a tenant are at work: the oldest of those that have not ended, as many as the tenant's limit says.

That is all the rule there is, and nothing is kept of it: a commit has the jobs that have not ended in order (`open` in
actors/keys.py), so whoever looks sees who is next, after any crash. A job stays among the oldest until it ends. The
dispatch of one that is not is put off by the host that has it: it stays in the outbox, and here in memory until its
turn comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from typing import Any

import msgspec
from msgspec.structs import replace

from callsheet.actors.journal import OutboxItem
from callsheet.actors.keys import PartitionKeys, partition_of
from callsheet.actors.ownership import Ownership
from callsheet.actors.tenants.limits import Tenants
from callsheet.jobs.effects import Dispatch

LOOK_SECONDS = 0.25  # while a tenant's places are all taken, its new jobs do not look again before that

Entry = tuple[Ownership, OutboxItem]
_Jobs = dict[str, dict[str, Entry]]


class Admission:
    """The dispatches of one host that wait for their job's turn. May be used from any thread.

    `client`: a blocking one of the journal's Redis; `partitions`: all of them. What asks Redis may raise RedisError or
    Unavailable.
    """

    def __init__(self, client: Any, tenants: Tenants, partitions: Callable[[], Sequence[PartitionKeys]]) -> None:
        self._redis = client
        self._tenants = tenants
        self._partitions = partitions
        self._waiting: dict[str, _Jobs] = {}  # tenant -> job -> effect, in the order of their coming
        self._taken_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def admits(self, owner: Ownership, item: OutboxItem) -> bool:
        """Whether it is the turn of the item's job; if not, the item waits here."""
        if item.admitted:
            return True
        tenant = item.tenant or self._tenant(item.job)
        limit = self._tenants.limits(tenant).active
        if not limit:
            return True
        with self._lock:
            if time.monotonic() >= self._taken_until.get(tenant, 0.0):
                oldest = self._oldest(tenant, limit)
                if item.job in oldest:
                    return True
                if len(oldest) == limit:
                    self._taken_until[tenant] = time.monotonic() + LOOK_SECONDS
            if owner.lost:
                return False  # the next owner finds it in the outbox, and may have put it here already
            self._waiting.setdefault(tenant, {}).setdefault(item.job, {})[item.id] = (owner, item)
            return False

    def ended(self, item: OutboxItem, before: int) -> list[Entry]:
        """The item's job has ended: what waits of it with a token below `before` never runs. What has its turn by
        that, if it is known whose job it was."""
        with self._lock:
            for jobs in self._waiting.values():
                waiting = jobs.get(item.job, {})
                for name in [n for n, (_, put_off) in waiting.items() if _token(put_off) < before]:
                    del waiting[name]
        return self._due_of(item.tenant) if item.tenant in self._waiting else []

    def due(self) -> Iterator[list[Entry]]:
        """Everything that has its turn now, tenant by tenant: it waits here no more, so whoever asks performs it."""
        for tenant in list(self._waiting):
            yield self._due_of(tenant)

    def _due_of(self, tenant: str) -> list[Entry]:
        limit = self._tenants.limits(tenant).active
        with self._lock:
            jobs = self._waiting.get(tenant, {})
            admitted = self._admitted(tenant, jobs, limit) if limit else list(jobs)
            entries = [entry for job in admitted for entry in jobs.pop(job).values()]
            due = [(owner, replace(item, admitted=True)) for owner, item in entries]
            for job in [job for job, entries in jobs.items() if all(owner.lost for owner, _ in entries.values())]:
                del jobs[job]  # the next owner finds it in the outbox
            if not jobs:
                self._waiting.pop(tenant, None)
                self._taken_until.pop(tenant, None)
        return due

    def _admitted(self, tenant: str, jobs: _Jobs, limit: int) -> list[str]:
        oldest = self._oldest(tenant, limit)
        admitted = [job for job in oldest if job in jobs]
        first = next(iter(jobs), None)
        if first is not None and first not in oldest and not self._is_open(tenant, first):
            admitted.append(first)  # it was accepted by a version that kept no order, or has ended: harmless
        return admitted

    def _oldest(self, tenant: str, limit: int) -> list[str]:
        """The tenant's `limit` oldest jobs that have not ended."""
        pipe = self._redis.pipeline(transaction=False)
        for keys in self._partitions():
            pipe.zrange(keys.open(tenant), 0, limit - 1, withscores=True)
        found = nsmallest(limit, ((at, job) for row in pipe.execute() for job, at in row))
        return [job.decode() for _, job in found]

    def _is_open(self, tenant: str, job: str) -> bool:
        return self._redis.zscore(self._of(job).open(tenant), job) is not None

    def _tenant(self, job: str) -> str:
        """Whose job it is; '' if it is gone."""
        raw = self._redis.hget(self._of(job).snapshot(job), "tenant")
        return msgspec.json.decode(raw, type=str) if raw else ""

    def _of(self, job: str) -> PartitionKeys:
        partitions = self._partitions()
        return partitions[partition_of(job, len(partitions))]


def _token(item: OutboxItem) -> int:
    return item.effect.token if isinstance(item.effect, Dispatch) else 0
