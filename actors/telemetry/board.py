"""Where every process puts its figures, so that whoever is asked can show those of all.

A snapshot every few seconds, in the broker's Redis, where a write costs no fsync; it goes by itself when its process
does. A scrape of one API process then shows all of them, also the other processes of the same API.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterable

import msgspec
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from callsheet.actors.committer import connect
from callsheet.actors.telemetry.metrics import REGISTRY
from callsheet.actors.wire import REDIS_AWAY

log = structlog.get_logger("metrics")
EVERY_SECONDS = 2.0
EXPIRES_MS = 10_000
ANSWER_SECONDS = 2.0
MOST_PROCESSES = 500
BOARD = "cs:metrics"  # zset, in the broker's Redis: process -> when it last wrote (ms, the server's clock)


class Family(msgspec.Struct, frozen=True):
    """One metric: name, type and help as in the text format, and samples of (name, labels, value)."""

    name: str
    kind: str
    about: str
    samples: list[tuple[str, dict[str, str], float]]


class Snapshot(msgspec.Struct, frozen=True):
    """The figures of one process."""

    role: str
    process: str
    families: list[Family]


_decoder = msgspec.json.Decoder(Snapshot)


def families_of(registry: CollectorRegistry) -> list[Family]:
    """What a registry counts, as data."""
    return [
        Family(metric.name, metric.type, metric.documentation, [(s.name, s.labels, s.value) for s in metric.samples])
        for metric in registry.collect()
    ]


def merged(snapshots: Iterable[Snapshot]) -> list[Metric]:
    """One metric a name, each sample with the role and the process that it is from."""
    metrics: dict[str, Metric] = {}
    for snapshot in snapshots:
        whose = {"role": snapshot.role, "process": snapshot.process}
        for family in snapshot.families:
            metric = metrics.setdefault(family.name, Metric(family.name, family.about, family.kind))
            for name, labels, value in family.samples:
                metric.add_sample(name, {**labels, **whose}, value)
    return list(metrics.values())


class Board:
    """This process's place among the others. May be used from any thread; what asks Redis may raise RedisError."""

    def __init__(self, url: str, role: str) -> None:
        self._redis = connect(url, ANSWER_SECONDS)
        self._role = role
        self._process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="metrics", daemon=True)

    def start(self) -> Board:
        """Write every few seconds from now on."""
        if self._thread.ident is None:
            self._thread.start()
        return self

    def stop(self) -> None:
        """Take the snapshot away, and write no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(EVERY_SECONDS)
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.zrem(BOARD, self._process)
            pipe.delete(_key(self._process))
            pipe.execute()
        except REDIS_AWAY:
            pass  # it expires
        self._redis.close()

    def own(self) -> Snapshot:
        """The figures of this process, now."""
        return Snapshot(self._role, self._process, families_of(REGISTRY))

    def write(self) -> None:
        """Put this process's figures where all see them."""
        now = self._now()
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(_key(self._process), msgspec.json.encode(self.own()), px=EXPIRES_MS)
        pipe.zadd(BOARD, {self._process: now})
        pipe.zremrangebyscore(BOARD, "-inf", now - EXPIRES_MS)
        pipe.execute()

    def others(self) -> list[Snapshot]:
        """The figures of the other processes, a few seconds old; of so many at most."""
        names = [name.decode() for name in self._redis.zrevrange(BOARD, 0, MOST_PROCESSES - 1)]
        wanted = [_key(name) for name in names if name != self._process]
        return [snapshot for raw in (self._redis.mget(wanted) if wanted else []) if raw and (snapshot := _read(raw))]

    def _now(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _keep_writing(self) -> None:
        while True:
            try:
                self.write()
            except REDIS_AWAY as error:
                log.debug("figures not written", why=str(error))
            if self._stopping.wait(EVERY_SECONDS):
                return


def _key(process: str) -> str:
    return f"{BOARD}:{process}"


def _read(raw: bytes) -> Snapshot | None:
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError:
        return None  # of a version that writes them otherwise
