"""Which partitions this host owns: taken when free, renewed while alive, handed over when another host has fewer.

Times are the journal server's: a host whose own clock is wrong neither keeps nor loses a partition by it. A lease
only says when somebody else may take over; what keeps an old owner from writing is the epoch, checked in the commit.
"""

from __future__ import annotations

import math
import secrets
import socket
from typing import Any

from callsheet.actors.committer import Committer
from callsheet.actors.keys import HOSTS, PartitionKeys
from callsheet.actors.wire import fixed_partitions


class Leases:
    """The leases of one host."""

    def __init__(self, committer: Committer, client: Any, lease_seconds: float, partitions: int) -> None:
        self.host = f"{socket.gethostname()}-{secrets.token_hex(6)}"
        self.lease_ms = int(lease_seconds * 1000)
        self._committer = committer
        self._redis = client
        self._wanted = partitions
        self.keys: list[PartitionKeys] = []

    def fix_partitions(self) -> None:
        """Learn how many partitions there are; the first one to ask decides it for good."""
        self.keys = fixed_partitions(self._redis, self._wanted)

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

    def take(self, number: int) -> int:
        """The new epoch if the partition was free, else 0."""
        return self._run(number, "take", 0)

    def renew(self, number: int, epoch: int) -> bool:
        """Whether this host still owns the partition."""
        return self._run(number, "renew", epoch) != 0

    def release(self, number: int, epoch: int) -> None:
        """Let another host take the partition at once."""
        self._run(number, "release", epoch)

    def leave(self) -> None:
        """This host is going: its share is for the others."""
        self._redis.zrem(HOSTS, self.host)

    def _run(self, number: int, action: str, epoch: int) -> int:
        keys = self.keys[number]
        return int(self._committer.run("lease", [keys.lease, keys.epoch], [action, self.host, self.lease_ms, epoch]))
