"""One trace goes from a client's request through the mailbox to each stage, whichever process does the work."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from callsheet.actors.telemetry import tracing
from callsheet.config.settings import Settings, SettingsError
from tests.http.service import SMALL, Api, served_whole
from tests.waiting import eventually

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Export)
        self.spans: list[tuple[str, Any]] = []  # service and span
        self.url = f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> list[Any]:
        found = {span.span_id: span for _, span in list(self.spans) if span.name == name}  # one may be sent twice
        return list(found.values())


class _Export(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        for of_a_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            (service,) = [a.value.string_value for a in of_a_process.resource.attributes if a.key == "service.name"]
            self.server.spans += [(service, span) for scope in of_a_process.scope_spans for span in scope.spans]
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture
def api(collector: Collector, redis_url: str, broker_url: str, tmp_path: Path) -> Iterator[Api]:
    """A service whose roles all trace."""
    servers = {"redis_url": redis_url, "broker_url": broker_url}
    with served_whole(tmp_path, **SMALL, **servers, otel_endpoint=collector.url) as api:
        yield api


def test_a_job_is_one_trace_from_the_clients_span_to_its_stages(api: Api, collector: Collector) -> None:
    answer = httpx.post(
        f"{api.url}/v1/jobs",
        data={"pipeline": "sample"},
        files={"file": ("a.wav", b"sound")},
        headers={"traceparent": f"00-{TRACE}-{CLIENT}-01"},
    )
    assert answer.status_code == 202
    eventually(lambda: collector.named("stage two") and collector.named("decide Succeeded"), 60)
    (request,) = eventually(lambda: collector.named("POST /v1/jobs"))
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, CLIENT)
    below = {(service, span.name) for service, span in collector.spans if span.parent_span_id == request.span_id}
    assert below >= {
        ("callsheet-host", "decide Submit"),
        ("callsheet-host", "decide Claim"),
        ("callsheet-host", "decide Succeeded"),
        ("callsheet-worker", "stage one"),
        ("callsheet-worker", "stage two"),
    }
    assert {span.trace_id.hex() for _, span in collector.spans if span.name.startswith(("stage", "decide"))} == {TRACE}
    facts = {a.key: a.value.string_value for a in collector.named("stage two")[0].attributes}
    assert (facts["job"], facts["pipeline"], facts["stage"]) == (answer.json()["id"], "sample", "two")

    job = answer.json()["id"]
    eventually(lambda: httpx.get(f"{api.url}/v1/jobs/{job}").json()["status"] == "completed", 60)
    assert httpx.post(f"{api.url}/v1/jobs/{job}/retry").status_code == 202
    assert httpx.post(f"{api.url}/v1/jobs/{job}/cancel").status_code in (202, 409)  # it may be faster
    for command in ("retry", "cancel"):
        (span,) = eventually(lambda name=f"POST /v1/jobs/{{job_id}}/{command}": collector.named(name))  # type: ignore[misc]
        assert [(link.trace_id.hex(), link.span_id) for link in span.links] == [(TRACE, request.span_id)]
        assert span.trace_id.hex() != TRACE
    eventually(lambda: cancel(api, job))
    span, *_ = eventually(lambda: collector.named("ws cancel"))
    assert (span.trace_id.hex(), span.parent_span_id) == (TRACE, request.span_id)


def cancel(api: Api, job: str) -> bool:
    """Ask for it over a WebSocket; False where that was closed already, since the job is over."""
    with contextlib.suppress(ConnectionClosed), connect(f"{api.url.replace('http', 'ws')}/v1/jobs/{job}/ws") as socket:
        socket.send('{"type": "cancel"}')
        return any('"outcome"' in frame for frame in socket)
    return False


def test_without_an_address_nothing_is_traced_and_nothing_imported(settings: Settings) -> None:
    tracing.start_tracing(settings, "test")
    assert not tracing.is_on()
    with tracing.span("nothing") as span:
        assert (span, tracing.current(), tracing.begin("nothing", "")) == (None, "", None)


def test_an_address_without_the_extra_is_said_at_the_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "callsheet.actors.telemetry.otel", None)
    traced = settings.model_copy(update={"otel_endpoint": "http://127.0.0.1:1"})
    with pytest.raises(SettingsError, match=r"callsheet\[otel\]"):
        tracing.start_tracing(traced, "test")
