"""Group commit: scripts of many actors travel to Redis in one pipeline, so that one fsync serves them all.

Whoever calls `run` blocks until the answer is there. While one batch is under way the next one gathers, so batches
grow with the load by themselves and a lone caller waits for nobody.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from importlib.resources import files
from queue import SimpleQueue
from typing import Any

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

MAX_BATCH = 256
MAX_CONNECTIONS = 1024  # above the threads of any host: redis-py's own bound, 100, made a pool of 128 lose partitions
SCRIPTS = ("commit", "dead", "fire", "lease", "performed", "send")


class JournalDownError(Exception):
    """The journal's Redis did not answer or refused to write: whether the step happened is not known."""


class _Pending:
    """A call on its way: its arguments, and a lock that opens when the answer is there."""

    __slots__ = ("args", "done", "keys", "result", "script")

    def __init__(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> None:
        self.script, self.keys, self.args = script, keys, args
        self.result: Any = None
        self.done = threading.Lock()
        self.done.acquire()


def connect(url: str, answer_seconds: float = 10.0) -> Any:
    """A client that never repeats a command by itself: a step that may have happened is looked up, not repeated.

    Any: redis-py types every answer for bytes and str, for now and for later, all at once.
    """
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=2.0,
        socket_timeout=answer_seconds,
        protocol=2,
        max_connections=MAX_CONNECTIONS,
    )


class Committer:
    """A few threads, a connection each, that send the scripts of everybody in this process.

    Two of them: while Redis works on one batch, the next is packed (measured: a quarter more than with one; a third
    adds nothing). Their order does not matter, since an actor has at most one step under way.
    """

    def __init__(self, url: str, lanes: int = 2) -> None:
        self._source = {name: files("callsheet.actors").joinpath(f"lua/{name}.lua").read_text() for name in SCRIPTS}
        self._sha = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._source.items()
        }
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._threads = [
            threading.Thread(
                target=self._loop,
                args=[connect(url).connection_pool.make_connection()],
                name=f"committer-{n}",
                daemon=True,
            )
            for n in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """The answer of a script. Raises JournalDownError when there is none."""
        pending = _Pending(script, keys, args)
        self._queue.put(pending)
        pending.done.acquire()
        if isinstance(pending.result, Exception):
            raise JournalDownError(str(pending.result)) from pending.result
        return pending.result

    def stop(self) -> None:
        """End the threads once what was asked for is done."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(5)

    def _loop(self, connection: Any) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    self._queue.put(None)
                    break
                batch.append(following)
            self._send(connection, batch)
        connection.disconnect()

    def _send(self, connection: Any, batch: list[_Pending]) -> None:
        try:
            results = self._execute(connection, batch)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told to those who wait, or they wait forever
            connection.disconnect()
            results = [error] * len(batch)
        for pending, result in zip(batch, results, strict=True):
            pending.result = result
            pending.done.release()

    def _execute(self, connection: Any, batch: list[_Pending]) -> list[Any]:
        results = self._pipeline(connection, batch, "EVALSHA", self._sha)
        lost = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
        if lost:  # a new server, or its scripts were flushed: these did not run, so sending them again is safe
            again = self._pipeline(connection, [batch[i] for i in lost], "EVAL", self._source)
            for i, result in zip(lost, again, strict=True):
                results[i] = result
        return results

    def _pipeline(self, connection: Any, batch: list[_Pending], command: str, script: dict[str, str]) -> list[Any]:
        # Packed by hiredis itself: redis-py's pipeline takes 35 us a commit for the same bytes, this takes 6.
        commands = [(command, script[p.script], len(p.keys), *p.keys, *p.args) for p in batch]
        connection.send_packed_command([b"".join(map(pack_command, commands))])
        return [_answer(connection) for _ in batch]


def _answer(connection: Any) -> Any:
    """One answer; an error of the script's is an answer too."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
