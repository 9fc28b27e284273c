"""What stages of a tenant's jobs have made, to be found again by what it was made from.

Only where it lies is remembered. The files are those of the job that made them, so what that job's owner removes is
gone from here, too; a job that uses them gets files of its own (links to the same bytes, where the store is a folder).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import structlog

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.committer import connect
from callsheet.actors.errors import CallsheetError
from callsheet.actors.stages.shelf import fetch
from callsheet.actors.stores.store import ArtifactStore
from callsheet.actors.tenants.limits import Tenants, limits_of
from callsheet.actors.tenants.names import ReuseKeys
from callsheet.actors.wire import REDIS_AWAY
from callsheet.config.settings import Settings
from callsheet.jobs.events import StageSucceeded, decode_event
from callsheet.jobs.job import FileRef, Job
from callsheet.jobs.reuse import reuse_key
from callsheet.pipelines.declare import StageError

log = structlog.get_logger("worker")
MAX_ENTRIES = 10_000  # a tenant; those that were made longest ago go first
FETCH_SECONDS = 600.0
RECENT = 200  # events that one success can lead to: every stage of a fan-out may be dispatched with it


class Made(msgspec.Struct, frozen=True):
    """Where it is written what was made: the seq of a StageSucceeded in the journal of a job."""

    job: str
    seq: int


class Shelved(msgspec.Struct, frozen=True):
    """What was found: the job that made it, and how the stage succeeded there. Its files are in the run's folder."""

    job: Job
    success: StageSucceeded


_made = msgspec.json.Decoder(Made)
_encode = msgspec.json.Encoder().encode


class Reuse:
    """Looks up what need not be made again, and notes what was made. Trouble of its own is a miss, never a failure."""

    def __init__(self, settings: Settings, jobs: BlockingJobs, store: ArtifactStore) -> None:
        self._jobs, self._store = jobs, store
        self._redis = connect(settings.journal)
        self._tenants = Tenants(self._redis, limits_of(settings))
        self._off = frozenset(settings.no_reuse)

    def find(self, job: Job, stage: str, folder: Path, waits: Callable[[], None]) -> Shelved | None:
        """What this stage would make, with its files brought into the folder; None when it must be made. `waits` is
        called when that may take a while."""
        if (key := self._key(job, stage)) is None:
            return None
        try:
            found = self._look_up(job.tenant, key)
            if found is not None:
                waits()
                self._bring(found, folder)
        except (CallsheetError, StageError, *REDIS_AWAY, ValueError) as error:  # ValueError: it cannot be read
            log.warning("nothing is reused", job=job.id, stage=stage, why=str(error))
            return None
        return found

    def note(self, job: Job, stage: str, seq: int) -> None:
        """This stage has just succeeded, and the job is at `seq`: what it made may be found from now on."""
        if (key := self._key(job, stage)) is None:
            return
        try:
            self._note(ReuseKeys(job.tenant), key, job.id, stage, seq)
        except (CallsheetError, *REDIS_AWAY):
            pass  # it will be made again, then
        except Exception:  # a bug here must not cost the stage that the worker was handed with this success
            log.exception("not noted for reuse", job=job.id, stage=stage)

    def _note(self, keys: ReuseKeys, key: str, job: str, stage: str, seq: int) -> None:
        entries = self._jobs.events(job, after=max(0, seq - RECENT), limit=RECENT)
        events = [decode_event(entry.raw) for entry in entries if entry.type == StageSucceeded.__name__]
        made = max((event.seq for event in events if event.stage == stage), default=None)
        if made is None:
            return  # the job was forgotten meanwhile, or more than RECENT events came of that success
        pipe = self._redis.pipeline()
        pipe.hset(keys.made, key, _encode(Made(job, made)))
        pipe.zadd(keys.order, {key: time.time()})
        pipe.zrange(keys.order, 0, -MAX_ENTRIES - 1)
        if beyond := pipe.execute()[-1]:
            self._redis.hdel(keys.made, *beyond)
            self._redis.zrem(keys.order, *beyond)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _key(self, job: Job, stage: str) -> str | None:
        """What the stage's outputs are found by; None where they are not used again."""
        key = reuse_key(job, stage)
        if key is None or {f"{job.pipeline}.{job.stages[stage].spec}", "*"} & self._off:
            return None
        try:
            return key if self._tenants.limits(job.tenant).reuse else None
        except CallsheetError:
            return None

    def _look_up(self, tenant: str, key: str) -> Shelved | None:
        raw = self._redis.hget(ReuseKeys(tenant).made, key)
        if raw is None:
            return None
        made = _made.decode(raw)
        job = self._jobs.job(made.job)
        written = self._jobs.events(made.job, after=made.seq - 1, limit=1) if job and job.status != "expired" else []
        if job is None or not written or not isinstance(success := decode_event(written[0].raw).data, StageSucceeded):
            return None  # that job was forgotten
        return Shelved(job, success)

    def _bring(self, found: Shelved, folder: Path) -> None:
        brought: list[Path] = []
        try:
            for file in found.success.outputs:
                brought.append(folder / file.name)
                self._bring_one(found.job.id, file, brought[-1])
        except BaseException:
            _remove(brought)
            raise

    def _bring_one(self, job: str, file: FileRef, target: Path) -> None:
        place = self._store.locate(job, file, FETCH_SECONDS)
        if not isinstance(place, str):
            fetch(place, target)
            return
        try:
            os.link(place, target)
        except OSError:  # another file system; or it is gone, and then this says so
            shutil.copyfile(place, target)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
