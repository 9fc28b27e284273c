"""An API whose files go to a bucket: what it keeps on its own disk, and what a bucket that does not answer costs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from callsheet.actors.stores.uploads import UploadInfo, UploadStore, new_upload_id
from tests.http.service import Api
from tests.waiting import eventually

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


def test_what_was_left_on_the_disk_of_such_an_api_goes_though_no_host_comes_by(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    store = tmp_path / "data-0" / "store"
    uploads = UploadStore(store / "uploads", 24 * 3600)
    (store / "incoming").mkdir(parents=True)
    kept = [store / "incoming" / "upload-new", *created(uploads, store, "new")]
    left = [store / "incoming" / "upload-old", *created(uploads, store, "old")]
    for file in (kept[0], left[0]):
        file.touch()
    for file in left:
        os.utime(file, (0, 0))
    make_api(path="/healthz", store_url="s3://bucket", store_region="us-east-1")
    eventually(lambda: not any(file.exists() for file in left))
    assert all(file.exists() for file in kept)


def created(uploads: UploadStore, store: Path, tenant: str) -> list[Path]:
    """The bytes of a new upload."""
    upload = new_upload_id()
    assert uploads.create(tenant, upload, UploadInfo(5))
    return list((store / "uploads").glob(f"*/{upload}/data"))


def at(bucket: socket.socket) -> dict[str, str]:
    """The settings of a bucket behind that socket."""
    bucket.settimeout(30)
    return {
        "store_endpoint": f"http://127.0.0.1:{bucket.getsockname()[1]}",
        "store_region": "us-east-1",
        "store_access_key": "key",
        "store_secret_key": "secret",
    }
