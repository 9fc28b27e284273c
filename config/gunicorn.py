"""Gunicorn's part of the settings: what the API's processes get from it, whichever application they serve."""

from __future__ import annotations

import signal
from typing import Any

import structlog
from gunicorn.glogging import Logger

from callsheet.config.process import die_with_parent
from callsheet.config.settings import Settings

log = structlog.get_logger("api")


class PlainLogger(Logger):  # type: ignore[misc]  # gunicorn carries no type information
    """Leaves the handlers to `config.logging`, so that gunicorn's lines look like all others."""

    def setup(self, cfg: Any) -> None:
        """Let the lines travel up to the root logger; the parent class would add handlers of its own."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True


def gunicorn_options(settings: Settings) -> dict[str, Any]:
    """The options of gunicorn that follow from the settings."""
    return {
        "bind": settings.address,
        "workers": settings.api_workers,
        "graceful_timeout": settings.graceful_seconds,
        "timeout": 60,
        # Longer than clients and load balancers keep an idle connection (60 s at most, as a rule): who closes it first
        # may do so just as the other sends a request, which then fails.
        "keepalive": 75,
        "control_socket_disable": True,  # nobody needs it, and its default path is shared by all instances
        "accesslog": None,
        "loglevel": "warning" if settings.log_level == "info" else settings.log_level,
        "logger_class": PlainLogger,
        "when_ready": lambda _arbiter: log.info("listening", address=settings.address),
        "post_fork": _post_fork,
        "proc_name": "callsheet api",
    }


def _post_fork(_arbiter: Any, worker: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until it serves: the arbiter's handler, inherited, would swallow it
    die_with_parent(worker.ppid)
