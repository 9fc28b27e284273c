"""Artifacts: whole, in ranges, on condition, and harmless in a browser. A linter's findings are here."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import httpx
import pytest

from tests.http.service import Api, Stages

TEXT = bytes(range(256)) * 1000
SCRIPT = b"<script>alert(document.domain)</script>"
DRAWN = b'<svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>"
DIGEST = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture(scope="module")
def done(api: Api, stages: Stages) -> str:
    """Where the artifacts of a completed job are."""
    job = str(api.submit().json()["id"])
    stages.complete(
        job,
        **{"long.txt": TEXT, "page.html": SCRIPT, "grüße (1)'.json": b"{}", "odd.json": b"{}"}
        | {"empty.txt": b"", "picture.svg": DRAWN, "subtitles.vtt": b"WEBVTT\n\n00:00.000 --> 00:01.000\n" + SCRIPT},
    )
    return f"{api.url}/v1/jobs/{job}/artifacts"


def get(done: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{done}/long.txt", headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_list_has_each_with_its_digest_and_address(done: str) -> None:
    listed = httpx.get(done).json()["artifacts"]
    assert [(a["name"], a["bytes"]) for a in listed] == [
        ("long.txt", len(TEXT)),
        ("page.html", len(SCRIPT)),
        ("grüße (1)'.json", 2),
        ("odd.json", 2),
        ("empty.txt", 0),
        ("picture.svg", len(DRAWN)),
        ("subtitles.vtt", 32 + len(SCRIPT)),
    ]
    assert listed[0]["sha256"] == DIGEST
    assert listed[2]["url"].endswith("/artifacts/gr%C3%BC%C3%9Fe%20%281%29%27.json")
    for artifact in listed:
        assert httpx.get(f"{done.partition('/v1')[0]}{artifact['url']}").status_code == 200


def test_the_whole_file_comes_with_the_headers_that_make_it_harmless(done: str) -> None:
    answer = get(done)
    assert (answer.status_code, answer.content) == (200, TEXT)
    wanted = {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(TEXT)),
        "etag": f'"{DIGEST}"',
        "accept-ranges": "bytes",
        "content-disposition": "attachment; filename*=UTF-8''long.txt",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    assert {name: answer.headers.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("query", ["", "?inline=1"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("page.html", "application/octet-stream"),
        ("picture.svg", "application/octet-stream"),
        ("subtitles.vtt", "text/vtt; charset=utf-8"),
    ],
)
def test_what_may_hold_a_script_runs_in_no_browser(done: str, name: str, told: str, query: str) -> None:
    """Not even when it is asked for in place: its type is fixed, it is saved and not shown, and in a sandbox."""
    headers = httpx.get(f"{done}/{name}{query}", headers={"Accept": "text/html,image/svg+xml"}).headers
    assert headers["content-type"] == told
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"


def test_a_name_is_encoded(done: str) -> None:
    odd = httpx.get(f"{done}/grüße (1)'.json").headers["content-disposition"]
    assert odd == "attachment; filename*=UTF-8''gr%C3%BC%C3%9Fe%20%281%29%27.json"


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("0-0", 0, 0), ("0-99", 0, 99), ("255000-", 255000, 255999), ("-10", 255990, 255999), ("-999999", 0, 255999),
     ("100-999999", 100, 255999), ("255999-255999", 255999, 255999), (f"100-{'9' * 30}", 100, 255999),
     (f"-{'9' * 30}", 0, 255999), (" 0-99", 0, 99)],
)  # fmt: skip
def test_a_range_is_exactly_those_bytes(done: str, wanted: str, first: int, last: int) -> None:
    answer = get(done, Range=f"bytes={wanted}")
    assert (answer.status_code, answer.content) == (206, TEXT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(TEXT)}"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert get(done, Range=f"BYTES={wanted}").content == answer.content, (
        "a unit's case does not matter (RFC 9110, 14.1)"
    )


@pytest.mark.parametrize("wanted", ["256000-", "-0", "300000-300001", f"{'9' * 30}-"])
def test_a_range_that_is_not_there_is_416_with_the_size(done: str, wanted: str) -> None:
    answer = get(done, Range=f"bytes={wanted}")
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(TEXT)}")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "ignored", ["bytes=0-1,5-6", "items=0-1", "bytes=5-2", "bytes=x", "bytes=-", "Bytes=-", "bytes", ""]
)
def test_several_ranges_and_malformed_ones_get_the_whole(done: str, ignored: str) -> None:
    answer = get(done, Range=ignored)
    assert (answer.status_code, answer.content) == (200, TEXT)


def test_a_range_holds_only_for_the_version_it_was_begun_with(done: str) -> None:
    assert get(done, Range="bytes=0-9", If_Range=f'"{DIGEST}"').status_code == 206
    for other in ('"other"', f'W/"{DIGEST}"', "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert get(done, Range="bytes=0-9", If_Range=other).status_code == 200


def test_a_version_that_the_client_has_is_not_sent_again(done: str) -> None:
    for known in (f'"{DIGEST}"', f'W/"{DIGEST}"', f'"x", "{DIGEST}"', "*"):
        answer = get(done, If_None_Match=known, Range="bytes=0-1")
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", f'"{DIGEST}"')
    assert get(done, If_None_Match='"other"').status_code == 200
    assert get(done, If_Match='"other"').status_code == 412
    assert get(done, If_Match=f'"{DIGEST}"').status_code == 200


def when(done: str) -> datetime:
    """When the stage that published them succeeded."""
    stages = httpx.get(done.removesuffix("/artifacts")).json()["stages"]
    return datetime.fromisoformat(stages[1]["ended_at"])


def test_the_time_of_an_artifact_is_that_of_its_stage_and_makes_conditions(done: str) -> None:
    at = when(done).replace(microsecond=0)
    told = parsedate_to_datetime(get(done).headers["last-modified"])
    assert told == at
    before, same = (format_datetime(t, usegmt=True) for t in (at - timedelta(seconds=1), at))
    for headers, status in (
        ({"If_Modified_Since": same}, 304),
        ({"If_Modified_Since": before}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Modified_Since": same, "If_None_Match": '"other"'}, 200),
        ({"If_Unmodified_Since": same}, 200),
        ({"If_Unmodified_Since": before}, 412),
        ({"If_Unmodified_Since": before, "If_Match": f'"{DIGEST}"'}, 200),
    ):
        assert get(done, **headers).status_code == status, headers


@pytest.mark.parametrize("path", ["/long.txt", "/long.txt?inline=1", "/page.html", "/empty.txt", ".zip", ""])
def test_head_has_exactly_the_headers_of_get_and_no_body(done: str, path: str) -> None:
    got, asked = httpx.get(done + path), httpx.head(done + path)
    # How a body is framed is no matter of an answer without one; each request has an id of its own.
    varying = {"date", "transfer-encoding", "x-request-id"}
    assert (asked.status_code, asked.content) == (got.status_code, b"") == (200, b"")
    assert {k: v for k, v in asked.headers.items() if k not in varying} == {
        k: v for k, v in got.headers.items() if k not in varying
    }


def test_head_takes_no_range(done: str) -> None:
    answer = httpx.head(f"{done}/long.txt", headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(TEXT)))


def test_only_what_runs_nothing_is_shown_in_place_and_only_when_asked(done: str) -> None:
    def shown(name: str, query: str = "?inline=1") -> tuple[str, str, str]:
        headers = httpx.get(f"{done}/{name}{query}").headers
        return headers["content-disposition"].split(";")[0], headers["content-type"], headers["x-content-type-options"]

    assert shown("long.txt") == ("inline", "text/plain; charset=utf-8", "nosniff")
    assert shown("long.txt", "?inline=0") == ("attachment", "text/plain; charset=utf-8", "nosniff")
    assert shown("page.html") == ("attachment", "application/octet-stream", "nosniff")
    assert shown("odd.json") == ("attachment", "application/json", "nosniff")
    assert httpx.get(f"{done}/long.txt?inline=yes").status_code == 400
    policy = httpx.get(f"{done}/long.txt?inline=1").headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "unsafe" not in policy


def test_the_list_that_a_client_has_is_not_sent_again(done: str) -> None:
    tag = httpx.get(done).headers["etag"]
    assert httpx.get(done, headers={"If-None-Match": tag}).status_code == 304


def test_an_empty_file_is_a_file(done: str) -> None:
    answer = httpx.get(f"{done}/empty.txt")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert httpx.get(f"{done}/empty.txt", headers={"Range": "bytes=0-"}).status_code == 416


def test_a_file_that_is_gone_is_not_found_and_cuts_a_zip_short(api: Api, stages: Stages) -> None:
    job = str(api.submit().json()["id"])
    stages.complete(job, **{"a.txt": TEXT, "b.txt": b"b"})
    (gone,) = (api.data / "store" / "jobs" / job).rglob("b.txt")
    gone.unlink()
    where = f"{api.url}/v1/jobs/{job}/artifacts"
    assert [httpx.request(m, f"{where}/b.txt").status_code for m in ("GET", "HEAD")] == [404, 404]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{where}.zip")


def test_a_file_shorter_than_its_record_is_cut_off_and_not_taken_for_whole(api: Api, stages: Stages) -> None:
    job = str(api.submit().json()["id"])
    stages.complete(job, **{"a.txt": TEXT * 4})
    (short,) = (api.data / "store" / "jobs" / job).rglob("a.txt")
    os.truncate(short, 600_000)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{api.url}/v1/jobs/{job}/artifacts/a.txt")


@pytest.mark.parametrize(
    "name", ["other.txt", "%2e%2e", "..%2f..%2finput%2fsource", "%2fetc%2fpasswd", "long.txt%00", "source"]
)
def test_a_name_is_looked_up_and_never_a_path(done: str, name: str) -> None:
    assert httpx.get(f"{done}/{name}").status_code == 404


def test_a_connection_serves_one_range_after_the_other(done: str) -> None:
    with httpx.Client() as client:
        for first in range(0, len(TEXT), 50_000):
            answer = client.get(f"{done}/long.txt", headers={"Range": f"bytes={first}-{first + 9}"})
            assert answer.content == TEXT[first : first + 10]
