"""Logs: one event a line, with its time, level, role and facts; on a terminal for eyes, elsewhere as JSON.

Everything goes through here, the standard library's loggers (gunicorn, dramatiq, pykka) included. What comes from
outside (file names, error texts) may hold terminal escapes, newlines or an address with a password: none gets out.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog

from callsheet.config.settings import Settings

Event = MutableMapping[str, object]
PASSWORD = re.compile(r"(\w+://[^\s/:@]*):[^\s/]*@")
COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
FIRST = ("timestamp", "level", "role", "event")
# What these say at `info` our own roles say better.
QUIET = ("dramatiq", "httpx", "httpcore", "asyncio", "faster_whisper", "urllib3", "filelock", "huggingface_hub")


def configure_logging(settings: Settings, role: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error), each line naming the role."""
    stream = stream or sys.stderr
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=as_json),
        _naming(role),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a role's modules may log before their process is configured
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(shared, render_json if as_json else ConsoleRenderer(colours=stream.isatty())))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    logging.captureWarnings(capture=True)


def _formatter(
    shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )


def _naming(role: str) -> structlog.typing.Processor:
    def add_role(_logger: object, _method: str, event: Event) -> Event:
        event.setdefault("role", role)
        return event

    return add_role


def render_json(_logger: object, _method: str, event: Event) -> str:
    """One JSON object a line, the time (UTC) first. JSON itself escapes what must not reach a terminal."""
    first = {name: event[name] for name in FIRST if name in event}
    return without_passwords(json.dumps({**first, **event}, default=repr, ensure_ascii=True))


class ConsoleRenderer:
    """One line for eyes: time, level, role, what happened, and the facts; a traceback indented below."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: object, _method: str, event: Event) -> str:
        """The line, with nothing left in the event that it does not show."""
        time = str(event.pop("timestamp", ""))[11:23]
        level = str(event.pop("level", "info"))
        role, what = str(event.pop("role", "")), visible(str(event.pop("event", "")))
        traceback = str(event.pop("exception", "") or "")
        facts = "".join(f" {key}={_fact(value)}" for key, value in event.items())
        line = f"{time} {self._level(level)} {role:<8} {what}{facts}"
        below = "".join(f"\n    {visible(line)}" for line in traceback.splitlines())
        return without_passwords(line + below)

    def _level(self, level: str) -> str:
        text = f"{level:<7}"
        return f"{COLOURS.get(level, '')}{text}\x1b[0m" if self._colours else text


def visible(text: str) -> str:
    """The text with control characters spelled out, so that a name cannot move the cursor or fake a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_passwords(text: str) -> str:
    """The text with the password of every address in it left out."""
    return PASSWORD.sub(r"\1:***@", text) if "@" in text else text


def _fact(value: object) -> str:
    text = visible(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or text == "" or '"' in text else text
