"""A bucket that does not answer costs those who wait for it, and nobody else."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.http.service import Api

TUS = {"Tus-Resumable": "1.0.0"}
MANY = (os.cpu_count() or 1) + 8  # more than the threads that asyncio takes by itself


def test_uploads_go_on_while_a_bucket_holds_up_many_submissions(make_api: Callable[..., Api]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bucket, ThreadPoolExecutor(MANY) as clients:
        api = make_api(path="/healthz", store_url="s3://bucket", **at(bucket))
        for n in range(MANY):
            clients.submit(api.submit, b"sound", key=f"slow-{n}")
        held = [bucket.accept()[0] for _ in range(MANY)]  # each of them is there, and none is answered
        made = httpx.post(f"{api.url}/v1/uploads", headers={**TUS, "Upload-Length": "5"}, timeout=10)
        assert made.status_code == 201
        for link in held:
            link.close()
        api.kill()


def at(bucket: socket.socket) -> dict[str, str]:
    """The settings of a bucket behind that socket."""
    bucket.settimeout(30)
    return {
        "store_endpoint": f"http://127.0.0.1:{bucket.getsockname()[1]}",
        "store_region": "us-east-1",
        "store_access_key": "key",
        "store_secret_key": "secret",
    }
