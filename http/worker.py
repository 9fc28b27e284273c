"""Gunicorn's ASGI worker, with what it lacks: a deadline for request headers, and an end that open feeds hear of.

It builds on names that gunicorn does not document; tests/http/test_worker.py pins them.
"""

from __future__ import annotations

import weakref
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

HEADER_SECONDS = 10.0
CUT_BEFORE_END = 1.5  # seconds that a connection which does not end has for its clean-up


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn carries no type information
    """One connection. One whose first request does not come within `HEADER_SECONDS` is answered 408 and closed; for
    later ones gunicorn's own keep-alive timer does it."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._patience = self.worker.loop.call_later(HEADER_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._patience.cancel()
        super().connection_lost(exc)

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

    def init_process(self) -> None:
        """Have our connections made where gunicorn makes its own."""
        gasgi.ASGIProtocol = Connection
        super().init_process()

    def handle_exit_signal(self) -> None:
        """SIGTERM: let watchers go at once, idle connections too, and the rest in time to clean up behind them."""
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
