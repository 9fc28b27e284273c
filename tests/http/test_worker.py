"""The server itself: it stops in time whatever is open, keeps to deadlines, and refuses what is malformed."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import gasgi
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from callsheet.config.gunicorn import gunicorn_options
from callsheet.config.settings import Settings
from callsheet.http import body as body_module
from callsheet.http import worker
from callsheet.http.body import Body
from tests.http.by_hand import FILE, PIPELINE, answer_of, chunk, dial, form
from tests.http.service import Api, Role
from tests.waiting import eventually


def test_open_feeds_are_let_go_when_the_service_stops(make_api: Callable[..., Api]) -> None:
    api = make_api(graceful_seconds="60", api_workers="2")
    job = api.submit().json()["id"]
    ended = list[str]()

    def watch() -> None:
        with httpx.stream("GET", f"{api.url}/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as answer:
            ready.release()
            ended.extend(line for line in answer.iter_lines() if line.startswith("id:"))  # to a clean end, or it raises
            ended.append("clean")

    ready = threading.Semaphore(0)
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert ready.acquire(timeout=60)
    idle = httpx.Client(base_url=api.url)
    idle.get("/healthz")  # leaves a connection open that nothing goes over
    silent = socket.create_connection(("127.0.0.1", api.port))  # and one on which nothing ever came
    with connect(f"ws://127.0.0.1:{api.port}/v1/jobs/{job}/ws") as link:
        assert [json.loads(link.recv(30))["seq"] for _ in range(2)] == [1, 2]
        api.stop(30)  # half of what it would give to whoever does not go by himself
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012  pings may come first
            while True:
                link.recv(30)
    watcher.join(30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert ended == ["id: 1", "id: 2", "clean"]
    idle.close()
    silent.close()


def test_an_upload_that_does_not_end_is_cut_in_time_and_leaves_nothing(make_api: Callable[..., Api]) -> None:
    api = make_api(graceful_seconds="3")
    with dial(api) as link:
        link.sendall(chunk(form(PIPELINE, FILE, end="")) + chunk(b"x" * 300_000))
        eventually(api.files)
        api.stop(20)
    assert api.files() == []


def test_a_request_under_way_is_answered_before_the_end(make_api: Callable[..., Api]) -> None:
    api = make_api(graceful_seconds="60")
    with dial(api) as link:
        link.sendall(chunk(form(PIPELINE, FILE, end="")) + chunk(b"x" * 300_000))
        eventually(api.files)
        api.process.terminate()
        eventually(lambda: refuses(api))
        link.sendall(chunk(b"\r\n--x--\r\n") + b"0\r\n\r\n")
        assert answer_of(link)[0] == 202
    assert api.process.wait(60) == 0


def refuses(api: Api) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", api.port)) != 0


def test_a_request_whose_client_was_watched_waits_for_no_more_of_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited two seconds behind each feed that ended, and so did the end of the service."""
    monkeypatch.setattr(body_module, "LINGER_SECONDS", 60.0)

    async def story() -> None:
        nothing_comes = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await nothing_comes.wait()
            raise AssertionError

        body = Body(receive, 30.0)
        await body.receive()
        watching = asyncio.create_task(body.left())
        await asyncio.sleep(0)
        body.close()
        await asyncio.wait_for(body.discard(), 30)
        watching.cancel()

    asyncio.run(story())


def test_a_server_that_cannot_start_says_so_by_its_exit_code(
    api: Api, addresses: dict[str, str], tmp_path: Path
) -> None:
    another = Role("api", tmp_path / "api.log", **{**addresses, "data": str(tmp_path), "port": str(api.port)})
    assert another.process.wait(60) == 1


def test_headers_that_do_not_come_are_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HEADER_SECONDS", 0.1)

    async def story() -> bytes:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: worker.Connection(FakeWorker(loop)), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        server.close()
        return answer

    assert asyncio.run(story()).startswith(b"HTTP/1.1 408 ")


def test_headers_of_a_later_request_that_do_not_come_are_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ok(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def story() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        fake = FakeWorker(loop, ok)
        fake.cfg.set("keepalive", 75)
        server = await loop.create_server(lambda: worker.Connection(fake), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        first = b""
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            first = await reader.readuntil(b"\r\n\r\n")
        monkeypatch.setattr(worker, "HEADER_SECONDS", 0.2)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        server.close()
        return first, answer

    first, answer = asyncio.run(story())
    assert first.startswith(b"HTTP/1.1 204 ")
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_outlives_what_clients_and_load_balancers_keep(settings: Settings) -> None:
    """The client closes it, not the service: just as it is used again, that would fail a request."""
    assert gunicorn_options(settings)["keepalive"] > 60


async def keep_open(scope: Any, receive: Any, send: Any) -> None:
    """Accept a WebSocket and stay; answer a request with bytes without end."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    with contextlib.suppress(OSError):
        for _ in range(10_000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})


def test_a_socket_that_answers_pings_stays_and_one_that_does_not_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PING_SECONDS", 0.1)
    hello = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def story() -> tuple[bytes, bool]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: worker.Connection(FakeWorker(loop, keep_open)), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with async_connect(f"ws://{host}:{port}", ping_interval=None) as link:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(hello)
            await reader.readuntil(b"\r\n\r\n")
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := await asyncio.wait_for(reader.read(100), 30):
                    got += piece
            writer.close()
            await link.send("still there")
            await asyncio.wait_for(await link.ping(), 30)
            stays = link.close_code is None
        server.close()
        return got, stays

    assert asyncio.run(story()) == (b"\x89\x00" * worker.SILENT_PINGS, True)


def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STALL_SECONDS", 0.2)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        lost = asyncio.Event()

        class Watched(worker.Connection):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                lost.set()

        server = await loop.create_server(lambda: Watched(FakeWorker(loop, keep_open)), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(lost.wait(), 60)  # the reader reads no more than its limit by itself
        assert reader.exception() is None
        writer.close()
        server.close()

    asyncio.run(story())


class FakeWorker:
    """A worker as far as a connection looks at it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any = None) -> None:
        self.cfg, self.loop, self.asgi, self.state = Config(), loop, app, dict[str, Any]()
        self.log = Logger(self.cfg)
        self.nr_conns, self.nr, self.max_requests, self.alive = 0, 0, sys.maxsize, True
        self.connections = set[object]()


def test_gunicorn_still_has_the_names_that_the_worker_builds_on() -> None:
    assert gasgi.ASGIProtocol in (ASGIProtocol, worker.Connection)
    assert "ASGIProtocol(self)" in inspect.getsource(gasgi.ASGIWorker._serve)
    for name in ("connection_made", "connection_lost", "_on_headers_complete", "_keepalive_timeout",
                 "_send_error_response", "_close_transport", "data_received", "pause_writing",
                 "resume_writing"):  # fmt: skip
        assert callable(getattr(ASGIProtocol, name))
    made = inspect.getsource(ASGIProtocol.__init__)
    for name in ("_awaiting_request", "_current_request", "_request_ready", "_closed", "req_count", "transport",
                 "_websocket"):  # fmt: skip
        assert f"self.{name} = " in made
    assert callable(gasgi.ASGIWorker.handle_exit_signal)
    loop = inspect.getsource(gasgi.ASGIWorker._serve).partition("while self.alive:")[2]
    assert [line.strip() for line in loop.splitlines() if "await" in line or "except" in line] == [
        "await asyncio.sleep(1.0)",  # what a cancel comes into
        "except asyncio.CancelledError:",
        "await self._shutdown()",
    ]


def test_an_early_refusal_leaves_the_connection_usable_or_closed(api: Api) -> None:
    """Never half of one request read as the next one."""
    with httpx.Client(base_url=api.url) as client:
        for _ in range(5):
            refused = client.post("/v1/jobs", content=b"x" * 300_000, headers={"content-type": "text/plain"})
            assert refused.status_code == 415
            assert client.get("/healthz").status_code == 200
