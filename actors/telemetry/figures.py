"""All figures of the service, as Prometheus reads them: what Redis knows, and what every process counts."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from callsheet.actors.committer import connect
from callsheet.actors.errors import Unavailable
from callsheet.actors.keys import HOSTS, PartitionKeys
from callsheet.actors.telemetry.board import Board, merged
from callsheet.actors.wire import REDIS_AWAY, fixed_partitions
from callsheet.config.settings import Settings

QUEUES = ("cpu", "io", "gpu")
ANSWER_SECONDS = 2.0
MEDIA_TYPE = CONTENT_TYPE_LATEST
AWAY = (*REDIS_AWAY, Unavailable)


class Figures:
    """Gathers them when asked. Blocks; start `board` where it runs."""

    def __init__(self, settings: Settings) -> None:
        self._journal = connect(settings.journal, ANSWER_SECONDS)
        self._broker = connect(settings.broker, ANSWER_SECONDS)
        self._partitions = settings.partitions
        self._data = settings.data
        self.board = Board(settings.broker, "api")

    def close(self) -> None:
        """Close the connections."""
        self.board.stop()
        self._journal.close()
        self._broker.close()

    def text(self) -> bytes:
        """Everything that can be had now. A Redis that is away costs its figures, and says so."""
        disk = GaugeMetricFamily("callsheet_disk_free_bytes", "Room on the data folder's disk, as this API sees it.")
        with contextlib.suppress(OSError):
            disk.add_metric([], shutil.disk_usage(self._data).free)
        up = GaugeMetricFamily("callsheet_redis_up", "Whether that Redis answers.", labels=["server"])
        metrics: list[Metric] = [disk, up]
        snapshots = [self.board.own()]
        for server, look in (("journal", self._of_the_journal), ("broker", self._of_the_broker)):
            try:
                metrics += look()
                up.add_metric([server], 1)
            except AWAY:
                up.add_metric([server], 0)
        with contextlib.suppress(*AWAY):  # said above
            snapshots += self.board.others()
        registry = CollectorRegistry()
        registry.register(_Given([*metrics, *merged(snapshots)]))
        return generate_latest(registry)

    def _of_the_journal(self) -> list[Metric]:
        partitions = fixed_partitions(self._journal, self._partitions)
        now = _milliseconds(self._journal.time())
        pipe = self._journal.pipeline(transaction=False)
        pipe.zcard(HOSTS)
        for keys in partitions:
            _ask(pipe, keys)
        hosts, *rows = pipe.execute()
        each = [rows[i : i + len(_SUMS) + 4] for i in range(0, len(rows), len(_SUMS) + 4)]
        metrics = _by_partition(each, now)
        metrics += [
            GaugeMetricFamily(name, about, sum(row[4 + n] for row in each)) for n, (name, about) in enumerate(_SUMS)
        ]
        return [*metrics, GaugeMetricFamily("callsheet_hosts", "Living hosts.", hosts)]

    def _of_the_broker(self) -> list[Metric]:
        depth = GaugeMetricFamily("callsheet_queue_depth", "Dispatches that wait for a worker.", labels=["queue"])
        age = GaugeMetricFamily(
            "callsheet_queue_oldest_seconds", "For how long the next one of them has waited.", labels=["queue"]
        )
        now = _milliseconds(self._broker.time())
        for queue in QUEUES:
            name = f"dramatiq:{queue}"  # as its dispatch.lua has it
            first = self._broker.lindex(name, 0)
            raw = self._broker.hget(f"{name}.msgs", first) if first else None
            depth.add_metric([queue], self._broker.llen(name))
            age.add_metric([queue], _seconds(now - msgspec.json.decode(raw)["message_timestamp"]) if raw else 0)
        return [depth, age]


class _Given(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """They."""
        return self._metrics


# What is asked of each partition after its mailbox (length, first entry), lease and epoch; summed over all of them.
_SUMS = (
    ("callsheet_outbox_effects", "Effects that are not performed yet, dispatches that wait for their turn included."),
    ("callsheet_dispatches_unclaimed", "Dispatches that no worker has claimed."),
    ("callsheet_timers", "Timers that are set: deadlines, retries, webhooks to come, expiry."),
    ("callsheet_dead_letters", "Messages that could not be applied; the newest 1,000 of a partition are kept."),
)


def _ask(pipe: Any, keys: PartitionKeys) -> None:
    pipe.xlen(keys.mailbox)
    pipe.xrange(keys.mailbox, count=1)
    pipe.exists(keys.lease)
    pipe.get(keys.epoch)
    pipe.hlen(keys.outbox)
    pipe.hlen(keys.dispatched)
    pipe.zcard(keys.timers)
    pipe.xlen(keys.dead)


def _by_partition(rows: list[list[Any]], now: int) -> list[Metric]:
    labels = ["partition"]
    waiting = GaugeMetricFamily("callsheet_mailbox_messages", "Messages not applied yet.", labels=labels)
    age = GaugeMetricFamily("callsheet_mailbox_oldest_seconds", "For how long the oldest one waits.", labels=labels)
    owned = GaugeMetricFamily("callsheet_partition_owned", "Whether a host holds its lease.", labels=labels)
    epoch = GaugeMetricFamily("callsheet_partition_epoch", "When its owner took it (ms).", labels=labels)
    for number, (length, first, lease, owners, *_) in enumerate(rows):
        since = int(first[0][0].partition(b"-")[0]) if first else now
        for metric, value in ((waiting, length), (age, _seconds(now - since)), (owned, lease), (epoch, owners or 0)):
            metric.add_metric([str(number)], float(value))
    return [waiting, age, owned, epoch]


def _milliseconds(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000


def _seconds(milliseconds: float) -> float:
    return max(0.0, milliseconds / 1000)  # clocks of machines differ
