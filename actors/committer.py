"""Group commit: scripts of many actors travel to Redis in one pipeline, so that one fsync serves them all.

Whoever calls `run` blocks until the answer is there. While one batch is under way the next one gathers, so batches
grow with the load by themselves and a lone caller waits for nobody.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Sequence
from importlib.resources import files
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
    """A call on its way, and a lock that opens when its answer is there, or when it is its caller's turn to send."""

    __slots__ = ("args", "connection", "done", "keys", "result", "script")

    def __init__(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> None:
        self.script, self.keys, self.args = script, keys, args
        self.result: Any = None
        self.connection: Any = None
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
    """A few connections that carry the scripts of everybody in this process.

    Who finds one free sends at once, from its own thread. Who finds none waits in line; whoever comes back with an
    answer gives the connection to the first in line, which sends what has gathered meanwhile. So nothing is handed to
    another thread and back unless there is something to share. (A thread a connection costs a lone commit two
    such hand-overs, a good part of its time.)

    Two connections: while Redis works on one batch, the next is packed (measured: a quarter more than with one; a third
    adds nothing). Their order does not matter, since an actor has at most one step under way.
    """

    def __init__(self, url: str, lanes: int = 2) -> None:
        self._source = {name: files("callsheet.actors").joinpath(f"lua/{name}.lua").read_text() for name in SCRIPTS}
        self._sha = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._source.items()
        }
        self._lock = threading.Lock()
        self._idle = [connect(url).connection_pool.make_connection() for _ in range(lanes)]
        self._line: deque[_Pending] = deque()
        self._stopped = False

    def run(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """The answer of a script. Raises JournalDownError when there is none."""
        pending = _Pending(script, keys, args)
        connection = self._connection_or_wait(pending)
        if connection is not None:
            self._lead(connection, pending)
        if isinstance(pending.result, Exception):
            raise JournalDownError(str(pending.result)) from pending.result
        return pending.result

    def stop(self) -> None:
        """Close the connections, those in use once what is in line is done. What is asked for later is refused."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def _connection_or_wait(self, pending: _Pending) -> Any:
        """A connection to send by; None when somebody else has sent it, and the answer is there."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._stopped:
                raise JournalDownError("this process lets go of its journal")
            self._line.append(pending)
        pending.done.acquire()
        return pending.connection

    def _lead(self, connection: Any, first: _Pending) -> None:
        """Send a call and those in line, hand the connection on, and only then wake those whose answer is there."""
        with self._lock:
            batch = [first, *(self._line.popleft() for _ in range(min(len(self._line), MAX_BATCH - 1)))]
        try:
            self._send(connection, batch)
        finally:
            self._hand_on(connection)
            for pending in batch[1:]:
                pending.done.release()

    def _hand_on(self, connection: Any) -> None:
        with self._lock:
            following = self._line.popleft() if self._line else None
            if following is None and self._stopped:
                connection.disconnect()  # under the lock: once it is idle, it may be somebody else's
            elif following is None:
                self._idle.append(connection)
        if following is not None:
            following.connection = connection
            following.done.release()

    def _send(self, connection: Any, batch: list[_Pending]) -> None:
        try:
            results = self._execute(connection, batch)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told to those who wait, or they wait forever
            connection.disconnect()
            with self._lock:
                for idle in self._idle:  # the same server is behind them: they begin anew, too
                    idle.disconnect()
            results = [error] * len(batch)
        for pending, result in zip(batch, results, strict=True):
            pending.result = result

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
