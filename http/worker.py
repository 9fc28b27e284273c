"""Gunicorn's ASGI worker, with what it lacks: deadlines for request headers and for clients that take nothing, pings
for WebSockets, and an end that open feeds hear of.

It builds on names that gunicorn does not document; tests/http/test_worker.py pins them.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

from callsheet.config.process import settle

HEADER_SECONDS = 10.0
STALL_SECONDS = 60.0  # that a client may take nothing of what waits for it; what it has missed it can ask for again
PING_SECONDS = 20.0  # between pings over a WebSocket; every client answers them, whatever its user does
SILENT_PINGS = 3  # without an answer, nobody is there
_PING = b"\x89\x00"  # RFC 6455, 5.5.2: final frame, opcode 9, no payload
CUT_BEFORE_END = 1.5  # seconds that a connection which does not end has for its clean-up


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn carries no type information
    """One connection. Headers that do not come within `HEADER_SECONDS`, of the connection for its first request and of
    their first byte for later ones, are answered 408, and it is closed. Gunicorn's keep-alive timer ends idle ones."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._patience = self.worker.loop.call_later(HEADER_SECONDS, self._give_up)
        self._stalled: asyncio.TimerHandle | None = None
        self._unanswered = 0  # pings
        self._next_ping = self.worker.loop.call_later(PING_SECONDS, self._ping)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._patience.cancel()
        self._next_ping.cancel()
        self._take_up()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Somebody is there."""
        self._unanswered = 0
        if self._awaiting_request and self._patience.cancelled():
            self._patience = self.worker.loop.call_later(HEADER_SECONDS, self._give_up)
        super().data_received(data)

    def pause_writing(self) -> None:
        """The client does not take what is sent: whoever sends to it waits, but not for ever."""
        super().pause_writing()
        self._stalled = self.worker.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes it."""
        self._take_up()
        super().resume_writing()

    def _take_up(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _ping(self) -> None:
        self._next_ping = self.worker.loop.call_later(PING_SECONDS, self._ping)
        socket = self._websocket
        if socket is None or not socket.accepted or socket._close_sent:  # noqa: SLF001  it has no other name
            return
        if self._unanswered >= SILENT_PINGS:
            self.transport.abort()
        else:
            self._unanswered += 1
            self.transport.write(_PING)

    def close_if_idle(self) -> None:
        """Close it unless a request is being served."""
        if self._awaiting_request and self.req_count > 1:
            self._keepalive_timeout()
        elif self._awaiting_request:
            self._give_up()

    def _on_headers_complete(self) -> Any:
        self._patience.cancel()
        return super()._on_headers_complete()

    def _give_up(self) -> None:
        if self._closed or self._current_request is not None:
            return
        self._send_error_response(408, "Request Timeout")
        self._close_transport()
        self._request_ready.set()  # wakes the task that waits for the request, which then ends


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """One process that serves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._serving: asyncio.Task[Any] | None = None

    def init_process(self) -> None:
        """Have our connections made where gunicorn makes its own."""
        gasgi.ASGIProtocol = Connection
        super().init_process()

    async def _serve(self) -> None:
        settle()
        self._serving = asyncio.current_task()
        await super()._serve()

    def handle_exit_signal(self) -> None:
        """SIGTERM: let watchers go at once, idle connections too, and the rest in time to clean up behind them."""
        if self.alive and self.servers and self._serving is not None:
            self._serving.cancel()  # out of its sleep of a second between two heartbeats, and on to its shutdown
        super().handle_exit_signal()
        if stop := self.state.get("stop"):
            stop()
        for connection in list(self.connections):
            connection.close_if_idle()
        self.loop.call_later(max(0.1, self.cfg.graceful_timeout - CUT_BEFORE_END), self._cut)

    def _cut(self) -> None:
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
