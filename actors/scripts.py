"""One script for many partitions, in one go.

For what a host does about all of its partitions now and then. One after the other, each of a thousand would wait for an
fsync of its own, and a lease is over before the last of them is renewed. Sent together they share a few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

Call = tuple[Sequence[Any], Sequence[Any]]  # keys, arguments


class Script:
    """A script of lua/, for a blocking client. May be used from any thread."""

    def __init__(self, client: Any, name: str) -> None:
        self._redis = client
        self._source = files("callsheet.actors").joinpath(f"lua/{name}.lua").read_text()
        self._sha = hashlib.sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    def run_all(self, calls: Iterable[Call]) -> list[Any]:
        """The answers to these calls, in their order. Raises RedisError: which of them happened is not known then."""
        pipe = self._redis.pipeline(transaction=False)
        for n, (keys, args) in enumerate(calls):
            if n == 0:  # the server knows the script for the others by it
                pipe.eval(self._source, len(keys), *keys, *args)
            else:
                pipe.evalsha(self._sha, len(keys), *keys, *args)
        return list(pipe.execute())
