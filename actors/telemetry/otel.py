"""OpenTelemetry, for `tracing.py`: imported only where the settings ask for traces, since it is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

FLUSH_MS = 1_000
SEND_SECONDS, SEND_EVERY_MS = 2, 1_000  # a collector that hangs may hold up the end of a process for so long
_w3c = TraceContextTextMapPropagator()
Facts = Mapping[str, str | int]


class Tracer:
    """Makes spans, and sends them in batches from a thread of its own. Its queue is bounded: what a collector that is
    away does not take is dropped."""

    def __init__(self, endpoint: str, role: str) -> None:
        resource = Resource.create({"service.name": f"callsheet-{role}", "service.namespace": "callsheet"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
        self._tracer = self._provider.get_tracer("callsheet")

    def close(self) -> None:
        """Send what is left."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()

    def span(self, name: str, traceparent: str, facts: Facts) -> AbstractContextManager[Any]:
        """See tracing.span."""
        return self._tracer.start_as_current_span(name, context=_below(traceparent), attributes=facts)

    def begin(self, name: str, traceparent: str, facts: Facts) -> Any:
        """A span that is the current one of this context until it ends."""
        span = self._tracer.start_span(name, context=_below(traceparent), attributes=facts)
        return span, context.attach(trace.set_span_in_context(span))

    def link(self, traceparent: str, facts: Facts) -> None:
        """See tracing.link."""
        span, other = trace.get_current_span(), trace.get_current_span(_below(traceparent)).get_span_context()
        span.set_attributes(facts)
        if other.is_valid:
            span.add_link(other)

    def end(self, begun: Any, name: str, facts: Facts) -> None:
        """End what `begin` gave, under the name that is known by now."""
        span, token = begun
        span.update_name(name)
        span.set_attributes(facts)
        context.detach(token)
        span.end()


def current_traceparent() -> str:
    """The current span, as a W3C `traceparent`; '' without one."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier.get("traceparent", "")


def _below(traceparent: str) -> Context:
    return _w3c.extract({"traceparent": traceparent}, Context())
