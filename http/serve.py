"""The role `api`: gunicorn, set up from the settings, serving the application."""

from __future__ import annotations

import os
import sys
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError, HaltServer

from callsheet.actors.pipelines import PipelineError
from callsheet.config.gunicorn import gunicorn_options
from callsheet.config.settings import Settings
from callsheet.http.app import create_app
from callsheet.http.body import App
from callsheet.http.worker import Worker

MAX_FRAME = 64 * 1024  # of a WebSocket message; more is closed with 1009


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn carries no type information
    """Gunicorn with our options instead of its command line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Take the options of the settings, and those that the application itself needs."""
        options: dict[str, Any] = {
            **gunicorn_options(self._settings),
            "graceful_timeout": max(1, int(self._settings.graceful_seconds)),  # gunicorn counts in whole seconds
            "worker_class": Worker,
            "asgi_lifespan": "on",
            "websocket_max_message_size": MAX_FRAME,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> App:
        """The application, made in the process that serves it."""
        try:
            return create_app(self._settings)
        except PipelineError as error:  # as gunicorn wants it: one line, no traceback, no further try
            raise AppImportError(f"callsheet: CALLSHEET_PIPELINES: {error}") from None


def run_api(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. The master and the serving processes leave without the interpreter's own ceremony:
    it waits for threads that may be stuck in a file or in Redis, and takes a tenth of a second of CPU, which was two
    seconds on a loaded machine. Everything is closed by now. Raises SettingsError where an address is missing."""
    _ = settings.journal, settings.broker
    master = os.getpid()
    try:
        Server(settings).run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except HaltServer as halt:  # a second process failed while gunicorn was ending for the first
        status = halt.exit_status
    else:
        return
    if status == Arbiter.APP_LOAD_ERROR and os.getpid() == master:
        status = 2  # as for settings: why has been said, and the same again would not help
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
