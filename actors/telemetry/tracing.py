"""Traces, off unless asked for: spans of the request, of each decision with its commit, and of each stage.

A job carries the `traceparent` of the request that made it (`Origin`), so all that happens to it later, in whichever
process, belongs to that request's trace; requests that command it are linked with it. While they are off a span costs a
look at a variable.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from callsheet.config.settings import Settings, SettingsError

if TYPE_CHECKING:
    from callsheet.actors.telemetry.otel import Tracer

_NOTHING = nullcontext()
_tracer: Tracer | None = None


def start_tracing(settings: Settings, role: str) -> None:
    """Send the spans of this process to the collector of the settings, if there is one. Raises SettingsError."""
    global _tracer  # noqa: PLW0603  a process has one tracer, as it has one logger
    if settings.otel_endpoint is None or _tracer is not None:
        return
    try:
        from callsheet.actors.telemetry.otel import Tracer  # noqa: PLC0415  an extra
    except ImportError:
        raise SettingsError("otel_endpoint is set, but the extra is missing: pip install 'callsheet[otel]'") from None
    _tracer = Tracer(settings.otel_endpoint, role)


def stop_tracing() -> None:
    """Send what is left."""
    global _tracer  # noqa: PLW0603
    if _tracer is not None:
        _tracer.close()
        _tracer = None


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def span(name: str, traceparent: str = "", **facts: str | int) -> AbstractContextManager[Any]:
    """A span around a block, below `traceparent` if that is one."""
    return _NOTHING if _tracer is None else _tracer.span(name, traceparent, facts)


def current() -> str:
    """The current span as a `traceparent`, for another process to go on from; '' while traces are off."""
    if _tracer is None:
        return ""
    from callsheet.actors.telemetry.otel import current_traceparent  # noqa: PLC0415

    return current_traceparent()


def begin(name: str, traceparent: str, **facts: str | int) -> Any:
    """A span that is the current one from now on in this context; None while traces are off. `end` it."""
    return None if _tracer is None else _tracer.begin(name, traceparent, facts)


def link(traceparent: str, **facts: str | int) -> None:
    """Link the current span with `traceparent`, if that is one: it has to do with that trace, and is none of it."""
    if _tracer is not None:
        _tracer.link(traceparent, facts)


def end(begun: Any, name: str, **facts: str | int) -> None:
    """End what `begin` gave, under the name that is known by now."""
    if begun is not None and _tracer is not None:
        _tracer.end(begun, name, facts)
