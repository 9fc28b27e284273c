"""Logs are readable, whole, and give nothing away."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from callsheet.config.logging import configure_logging
from callsheet.config.settings import Settings

Logged = Callable[..., io.StringIO]


@pytest.fixture
def logged() -> Iterator[Logged]:
    """Configure logging into a string, and put everything back afterwards."""
    root = logging.getLogger()
    before = root.handlers, root.level

    def configure(**changes: object) -> io.StringIO:
        stream = io.StringIO()
        configure_logging(Settings(**changes), "host", stream)  # type: ignore[arg-type]
        return stream

    yield configure
    root.handlers, root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_a_line_reads_time_level_role_event_facts(logged: Logged) -> None:
    stream = logged(log_format="console")
    structlog.get_logger().info("partition taken", partition=3, epoch=7)
    time, rest = stream.getvalue().split(" ", 1)
    assert len(time) == len("12:34:56.789")
    assert rest == "info    host     partition taken partition=3 epoch=7\n"


def test_json_holds_the_same_facts(logged: Logged) -> None:
    stream = logged(log_format="json")
    structlog.get_logger().warning("late", seconds=1.5)
    line = json.loads(stream.getvalue())
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() == timedelta(0)
    assert [*line.items()] == [("level", "warning"), ("role", "host"), ("event", "late"), ("seconds", 1.5)]


def test_auto_is_json_where_nobody_looks(logged: Logged) -> None:
    stream = logged()
    structlog.get_logger().info("hello")
    assert json.loads(stream.getvalue())["event"] == "hello"


def test_the_standard_librarys_loggers_go_the_same_way(logged: Logged) -> None:
    stream = logged(log_format="console")
    logging.getLogger("dramatiq").warning("retrying in %d s", 5)
    assert stream.getvalue().endswith("warning host     retrying in 5 s\n")


@pytest.mark.parametrize("format_", ["console", "json"])
def test_control_characters_cannot_reach_the_terminal(logged: Logged, format_: str) -> None:
    stream = logged(log_format=format_)
    structlog.get_logger().info("received \x1b[2J", filename="a\r\n12:00:00 error forged\x9b1m.mp3")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().removesuffix("\n").isprintable()


@pytest.mark.parametrize("format_", ["console", "json"])
def test_a_password_in_an_address_is_never_logged(logged: Logged, format_: str) -> None:
    stream = logged(log_format=format_)
    try:
        raise ConnectionError("cannot reach rediss://app:hunter2@db.example:6379/0")
    except ConnectionError:
        structlog.get_logger().exception("lost redis://:hunter2@db", url="redis://app:hunter2@db/0")
    logging.getLogger("x").error("redis://a:hunter2@db")
    assert "hunter2" not in stream.getvalue()
    assert "rediss://app:***@db.example:6379/0" in stream.getvalue()


def test_a_traceback_stands_indented_below_its_line(logged: Logged) -> None:
    stream = logged(log_format="console")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        structlog.get_logger().exception("failed")
    first, *below = stream.getvalue().splitlines()
    assert first.endswith("error   host     failed")
    assert below[-1] == "    RuntimeError: boom"


def test_lines_below_the_level_are_left_out(logged: Logged) -> None:
    stream = logged(log_format="console", log_level="warning")
    structlog.get_logger().info("chatter")
    logging.getLogger("gunicorn.error").info("chatter")
    assert stream.getvalue() == ""
