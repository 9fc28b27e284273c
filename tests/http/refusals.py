"""What a client does wrong on a live service, by the code of the problem that it is answered with."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.http.by_hand import FILE, FORM, PIPELINE, form
from tests.http.service import Stages

NOBODY = "0123456789abcdef" * 2
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def post(client: httpx.Client, *parts: tuple[str, str, str], **headers: str) -> httpx.Response:
    return client.post("/v1/jobs", content=form(*parts), headers={**FORM, **headers})


def lost_cursor(client: httpx.Client) -> httpx.Response:
    """One of a place before everything that is kept."""
    places = client.get("/v1/events").json()["next_after"].split(".")
    return client.get(f"/v1/events?after={'.'.join(['1', *places[1:]])}")


def reused(client: httpx.Client) -> httpx.Response:
    post(client, PIPELINE, FILE, **{"Idempotency-Key": "once"})
    return post(client, PIPELINE, ("file", '; filename="a.wav"', "other"), **{"Idempotency-Key": "once"})


def upload_gone(client: httpx.Client) -> httpx.Response:
    begin = TUS | {"Upload-Length": "5", "Idempotency-Key": "given-up"}
    client.delete(client.post("/v1/uploads", headers=begin).headers["location"], headers=TUS)
    return client.post("/v1/uploads", headers=begin)


def forgotten(client: httpx.Client, job: str) -> httpx.Response:
    client.post(f"/v1/jobs/{job}/cancel")
    client.delete(f"/v1/jobs/{job}")
    return client.get(f"/v1/jobs/{job}")


def missing_range(client: httpx.Client, job: str, stages: Stages) -> httpx.Response:
    stages.complete(job, **{"a.txt": b"hello"})
    return client.get(f"/v1/jobs/{job}/artifacts/a.txt", headers={"Range": "bytes=5-"})


def cancelled_twice(client: httpx.Client, job: str) -> httpx.Response:
    client.post(f"/v1/jobs/{job}/cancel")
    return client.post(f"/v1/jobs/{job}/cancel")


def unknown_stage(client: httpx.Client, job: str) -> httpx.Response:
    client.post(f"/v1/jobs/{job}/cancel")
    return client.post(f"/v1/jobs/{job}/retry", json={"from_stage": "three"})


# What a client does on the live service, and the code of the answer.
LIVE: dict[str, Callable[[httpx.Client, str, Stages], httpx.Response]] = {
    "bad_request": lambda c, _j, _s: c.request("WEBSOCKET", "/v1/jobs"),
    "invalid_json": lambda c, j, _s: c.post(f"/v1/jobs/{j}/retry", content=b'{"params": NaN}'),
    "invalid_multipart": lambda c, _j, _s: c.post("/v1/jobs", content=b"--y\r\n", headers=FORM),
    "invalid_parameter": lambda c, j, _s: c.get(f"/v1/jobs/{j}/events?after=x"),
    "invalid_cursor": lambda c, _j, _s: c.get("/v1/jobs?cursor=nonsense"),
    "forbidden_origin": lambda c, j, _s: c.post(f"/v1/jobs/{j}/cancel", headers={"Origin": "http://evil.example"}),
    "unknown_host": lambda c, _j, _s: c.get("/v1/jobs", headers={"Host": "evil.example"}),
    "cursor_lost": lambda c, _j, _s: lost_cursor(c),
    "not_found": lambda c, _j, _s: c.get("/v1/nothing"),
    "method_not_allowed": lambda c, j, _s: c.put(f"/v1/jobs/{j}"),
    "body_too_large": lambda c, j, _s: c.post(f"/v1/jobs/{j}/retry", content=b" " * 300_000),
    "unsupported_media_type": lambda c, _j, _s: c.post("/v1/jobs", content=b"a=b"),
    "range_not_satisfiable": missing_range,
    "upgrade_required": lambda c, j, _s: c.get(f"/v1/jobs/{j}/ws"),
    "missing_part": lambda c, _j, _s: post(c, FILE),
    "unexpected_part": lambda c, _j, _s: post(c, PIPELINE, FILE, ("extra", "", "1")),
    "duplicate_part": lambda c, _j, _s: post(c, PIPELINE, FILE, FILE),
    "empty_file": lambda c, _j, _s: post(c, PIPELINE, ("file", '; filename="a.wav"', "")),
    "unsupported_container": lambda c, _j, _s: post(c, PIPELINE, ("file", '; filename="a.wav"', "refuse me")),
    "unknown_pipeline": lambda c, _j, _s: post(c, FILE, ("pipeline", "", "nothing")),
    "invalid_params": lambda c, _j, _s: post(c, PIPELINE, ("params", "", '{"level": 10}'), FILE),
    "invalid_field": lambda c, j, _s: c.post(f"/v1/jobs/{j}/cancel", json={"why": "because"}),
    "nothing_to_deliver": lambda c, j, _s: c.post(f"/v1/jobs/{j}/webhooks/redeliver"),
    "unknown_upload": lambda c, _j, _s: c.post("/v1/jobs", json={"pipeline": "sample", "upload": NOBODY}),
    "idempotency_key_reused": lambda c, _j, _s: reused(c),
    "offset_mismatch": lambda c, _j, _s: c.patch(resumable(c, 5), headers=TUS | {"Upload-Offset": "1"}, content=b"a"),
    "upload_gone": lambda c, _j, _s: upload_gone(c),
    "upload_incomplete": lambda c, _j, _s: c.post(
        "/v1/jobs", json={"pipeline": "sample", "upload": resumable(c, 5).rpartition("/")[2]}
    ),
    "unsupported_version": lambda c, _j, _s: c.post("/v1/uploads", headers={"Tus-Resumable": "0.2.2"}),
    "checksum_mismatch": lambda c, _j, _s: c.patch(
        resumable(c, 5), headers=TUS | {"Upload-Offset": "0", "Upload-Checksum": f"md5 {'A' * 22}=="}, content=b"hello"
    ),
    "url_forbidden": lambda c, _j, _s: c.post(
        "/v1/jobs", json={"pipeline": "sample", "source_url": "http://169.254.169.254/latest"}
    ),
    "job_ended": lambda c, j, _s: cancelled_twice(c, j),
    "job_active": lambda c, j, _s: c.post(f"/v1/jobs/{j}/retry"),
    "job_expired": lambda c, j, _s: forgotten(c, j),
    "precondition_failed": lambda c, j, _s: c.post(f"/v1/jobs/{j}/cancel", headers={"If-Match": '"999"'}),
    "unknown_stage": lambda c, j, _s: unknown_stage(c, j),
}


def resumable(client: httpx.Client, length: int) -> str:
    """The path of a new upload in pieces."""
    return client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(length)}).headers["location"]
