"""The npm package `eventsource` watches a job through a connection that is cut again and again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from callsheet.jobs.events import BODIES
from tests.clients.node import Node
from tests.http.cutting import pump
from tests.http.service import Api, Stages

pytestmark = pytest.mark.timeout(400)  # the first test of a machine installs the clients, and others wait for it
SCRIPT = Path(__file__).parents[1] / "clients" / "watch.cjs"


@contextmanager
def cut_off(target: int, *limits: int) -> Iterator[str]:
    """An address of the API whose first connections end after so many bytes of the answer."""
    left = [*limits]

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client, left.pop(0) if left else None), daemon=True).start()

    def serve(client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", target)) as server:
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            pump(server, client, limit)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert not left


def test_an_eventsource_that_is_cut_off_sees_exactly_all_and_stops_at_the_end(
    api: Api, job: str, client: httpx.Client, stages: Stages, node: Node
) -> None:
    stages.complete(job, 30)
    told = client.get(f"/v1/jobs/{job}/events?limit=1000").json()["events"]
    with cut_off(api.port, 2500, 1500) as url:
        output = node.run(SCRIPT, f"{url}/v1/jobs/{job}/events", *BODIES)
    *seen, closed = (json.loads(line) for line in output.splitlines())
    assert [(int(id_), type_, data) for id_, type_, data in seen] == [(e["seq"], e["type"], e) for e in told]
    assert closed == ["closed", 204]
