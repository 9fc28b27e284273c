"""Models on fal.ai, through its queue: submit, ask for the status, fetch the result, cancel.

Source: "Queue" and "Inference API" in fal's documentation (fal.ai/docs), and for uploads its open clients:
`POST {rest}/storage/upload/initiate` gives a URL to PUT the file to, and the URL under which models read it. The URLs
of an order come with the answer to its submission and are not put together here; they must lead to the queue's host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec

from callsheet.media.providers.base import Order, ProviderError, ProviderSettings, Ref, Status
from callsheet.media.providers.web import Web, bad_answer, check_host

KEPT = '{"expiration_duration_seconds": 259200}'  # what was uploaded and made is removed there after three days
URLS = ("status_url", "response_url", "cancel_url")


class Fal:
    """The adapter. `Order.answer` names the file in the result: `video`, `mask_video`."""

    name = "fal"

    def __init__(self, settings: ProviderSettings) -> None:
        self._queue, self._rest = settings.fal_queue_url.rstrip("/"), settings.fal_rest_url.rstrip("/")
        self._hosts = settings.fal_file_hosts
        self._web = Web("fal.ai", {"Authorization": f"Key {settings.fal_key}"}, settings.call_seconds, _free, _ended)

    def prepare(self, order: Order) -> Order:
        """Upload the files, and put their URLs into the arguments."""
        urls = {name: self._upload(path, media_type) for name, (path, media_type) in order.files.items()}
        return msgspec.structs.replace(order, arguments={**order.arguments, **urls}, files={})

    def _upload(self, path: Path, media_type: str) -> str:
        place = self._web.call(
            "POST",
            f"{self._rest}/storage/upload/initiate?storage_type=fal-cdn-v3",
            json={"content_type": media_type, "file_name": path.name},
            headers={"X-Fal-Object-Lifecycle": KEPT},
        ).json()
        there = check_host(place.get("upload_url"), self._hosts, self._rest)
        size = {"Content-Type": media_type, "Content-Length": str(path.stat().st_size)}
        self._web.call("PUT", there, content=path, headers=size, with_key=False)
        return check_host(place.get("file_url"), self._hosts, self._rest)

    def submit(self, order: Order, _target: Path) -> Ref:
        """Put the order into the queue."""
        headers = {"X-Fal-Object-Lifecycle-Preference": KEPT}
        url = f"{self._queue}/{order.model}"
        answer = self._web.call("POST", url, json=order.arguments, headers=headers, once=True).json()
        request = answer.get("request_id")
        if not isinstance(request, str) or not 0 < len(request) <= 200:
            raise bad_answer("it names no request")
        urls = {name: check_host(answer.get(name), (), self._queue) for name in URLS}
        return Ref(self.name, request, urls)

    def poll(self, ref: Ref) -> Status:
        """How far it is. 202 while it is in work, 200 at the end; then an `error` says that it came to nothing."""
        answer = self._web.call("GET", ref.urls["status_url"]).json()
        match answer.get("status"):
            case "IN_QUEUE":
                return Status("queued", f"{answer.get('queue_position', '?')} before it"[:40])
            case "IN_PROGRESS":
                return Status("running")
            case "COMPLETED":
                if answer.get("error"):
                    raise _failed(str(answer["error"]))
                return Status("done")
            case _:
                raise bad_answer("it names no status that is known")

    def fetch(self, ref: Ref, order: Order, target: Path) -> None:
        """Download the file that the result names."""
        result = self._web.call("GET", ref.urls["response_url"]).json()
        file: Any = result.get(order.answer)
        url = file.get("url") if isinstance(file, dict) else None
        self._web.download(check_host(url, self._hosts, self._queue, self._rest), target, order.limit)

    def cancel(self, ref: Ref) -> bool:
        """Ask for it: 202 when it will be, 400 or 404 when there is nothing left to cancel."""
        return self._web.call("PUT", ref.urls["cancel_url"], passes=(400, 404)).status not in (400, 404)


def _failed(reason: str) -> ProviderError:
    return ProviderError("provider_failed", f"The model at fal.ai failed: {' '.join(reason.split())[:200]}")


def _ended(response: httpx.Response) -> bool:
    """The result of an order that failed is an error: of the model, with 422, or of what runs it, named in a header."""
    request = response.request
    return request.method == "GET" and (response.status_code == 422 or "x-fal-error-type" in response.headers)


def _free(response: httpx.Response) -> bool:
    """503 without a request's id comes from a gateway, before the queue: nothing was taken. Of others nobody knows."""
    return response.status_code == 503 and "x-fal-request-id" not in response.headers
