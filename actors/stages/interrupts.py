"""Hears which dispatches are to be stopped, for all runs of a worker. What it misses, the runs find out by looking."""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis
import structlog

from callsheet.actors.keys import INTERRUPTS
from callsheet.actors.outage import Outage
from callsheet.actors.wire import REDIS_AWAY

log = structlog.get_logger("worker")
PATIENCE = 1.0


class Interrupts:
    """A thread that listens on the channel of interrupts and calls `stop(job, stage, token)` for each."""

    def __init__(self, redis_url: str, stop: Callable[[str, str, int], None]) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_connect_timeout=2.0, health_check_interval=5)
        self._stop = stop
        self._outage = Outage("the journal is away: interrupts are not heard", "interrupts are heard again")
        self._closing = threading.Event()
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="interrupts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(2 * PATIENCE)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except REDIS_AWAY as error:
                self._outage.goes_on(error)
                self.listening.clear()
                self._closing.wait(PATIENCE)
        self._redis.close()

    def _listen(self) -> None:
        with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(INTERRUPTS)
            while not self._closing.is_set():
                message = channel.get_message(timeout=PATIENCE)
                if message and message["type"] == "subscribe":
                    self.listening.set()
                    self._outage.is_over()
                elif message and message["type"] == "message":
                    self._heard(message["data"])

    def _heard(self, data: bytes) -> None:
        try:
            job, stage, token = data.decode().split(" ")
            self._stop(job, stage, int(token))
        except ValueError:
            log.warning("not an interrupt", data=data[:100])
