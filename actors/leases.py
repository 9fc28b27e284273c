"""Which partitions this host owns: taken when free, renewed while alive, handed over when another host has fewer.

Times are the journal server's: a host whose own clock is wrong neither keeps nor loses a partition by it. A lease
only says when somebody else may take over; what keeps an old owner from writing is the epoch, checked in the commit.
"""

from __future__ import annotations

import math
import secrets
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from callsheet.actors.keys import BORN, HOSTS, PartitionKeys
from callsheet.actors.scripts import Script
from callsheet.actors.wire import fixed_partitions

Held = tuple[int, int]  # a partition, and the epoch under which it is owned


class Leases:
    """The leases of one host. Every method may raise RedisError."""

    def __init__(self, client: Any, lease_seconds: float, partitions: int) -> None:
        self.host = f"{socket.gethostname()}-{secrets.token_hex(6)}"
        self.lease_ms = int(lease_seconds * 1000)
        self._redis = client
        self._script = Script(client, "lease")
        self._wanted = partitions
        self.keys: list[PartitionKeys] = []

    def fix_partitions(self) -> None:
        """Learn how many partitions there are; the first one to ask decides it for good."""
        self.keys = fixed_partitions(self._redis, self._wanted)

    def born(self) -> float:
        """When this journal began, in seconds since the epoch; at this moment, if it was just emptied."""
        self._redis.set(BORN, self._redis.time()[0], nx=True)
        return float(self._redis.get(BORN))

    def fair_share(self) -> int:
        """Say that this host is alive, and how many partitions each living host should own at most."""
        seconds, micros = self._redis.time()
        now = seconds * 1000 + micros // 1000
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(HOSTS, {self.host: now})
        pipe.zremrangebyscore(HOSTS, "-inf", now - self.lease_ms)
        pipe.zcard(HOSTS)
        hosts = max(1, int(pipe.execute()[-1]))
        return math.ceil(len(self.keys) / hosts)

    def take(self, numbers: Sequence[int]) -> list[int]:
        """Of each partition the new epoch if it was free, else 0."""
        return self._run("take", ((number, 0) for number in numbers))

    def renew(self, held: Iterable[Held]) -> list[bool]:
        """Of each partition whether this host still owns it."""
        return [epoch != 0 for epoch in self._run("renew", held)]

    def release(self, held: Iterable[Held]) -> None:
        """Let other hosts take these partitions at once."""
        self._run("release", held)

    def leave(self) -> None:
        """This host is going: its share is for the others."""
        self._redis.zrem(HOSTS, self.host)

    def _run(self, action: str, held: Iterable[Held]) -> list[int]:
        keys = self.keys
        return self._script.run_all(
            ([keys[number].lease, keys[number].epoch], [action, self.host, self.lease_ms, epoch])
            for number, epoch in held
        )
