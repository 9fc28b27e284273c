"""Attack inputs, sent as they are over sockets: each gets its answer, and nothing more comes of it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable

import httpx
import pytest
import redis
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from callsheet.actors.keys import PartitionKeys
from tests.http.by_hand import FILE, FORM, PIPELINE, form
from tests.http.service import Api

KIB = 1024
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"  # what must not be taken for a request of its own
END = b"\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def spoken(api: Api, raw: bytes) -> bytes:
    """All that comes back on a connection until the server closes it. It must: a timeout is an error."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as link:
        with contextlib.suppress(OSError):  # refused while still being sent: the answer is there all the same
            link.sendall(raw)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := link.recv(64 * KIB):
                answer += piece
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (GET + b"X: " + b"a" * KIB * KIB + END + END, 431),
        (GET + b"".join(b"X-%d: 1\r\n" % n for n in range(10_000)) + END, 431),
        (b"GET /" + b"a" * 8 * KIB + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Content-Length: 5, 50\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Content-Length: +5\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED, 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + SMUGGLED, 400),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n" + SMUGGLED, 400),
        (CHUNKED + b"zz\r\n\r\n" + SMUGGLED, 400),
        (CHUNKED + b"-1\r\n\r\n" + SMUGGLED, 400),
        (CHUNKED + b"3\r\nabcdef\r\n" + SMUGGLED, 400),
        (CHUNKED + b"3;" + b"e" * KIB * KIB + b"\r\nabc\r\n" + SMUGGLED, 400),
        (GET + b"Host: y\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\rHost: x\r\n\r\n", 400),
        (GET + b"X: a\rSmuggled: b\r\n\r\n", 400),
        (GET + b"X: a\x00b\r\n\r\n", 400),
        (GET + b"X: a\r\n folded\r\n\r\n", 400),
        (GET + b"X\x1b[2J: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /v1/jobs/x/ws HTTP/1.0\r\nHost: x\r\n" + UPGRADE + END, 403),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\r\n\r\n", 400),
    ],
    ids=[
        *("1 MB header", "10,000 headers", "8 KB URI", "TE+CL", "CL+TE", "two CLs", "CL list", "negative CL", "+CL"),
        *("unknown TE", "two TEs", "TE with a space", "bad chunk", "negative chunk", "chunk too long"),
        *("chunk extension", "two Hosts", "bare CR", "CR in a value", "NUL", "folded", "escape in a name", "no Host"),
        *("version", "WebSocket of HTTP/1.0", "TLS"),
    ],
)
def test_a_request_that_readers_may_disagree_about_is_refused_once_and_the_connection_closed(
    api: Api, raw: bytes, status: int
) -> None:
    assert statuses(spoken(api, raw)) == [status]


def test_a_chunk_whose_size_does_not_fit_a_machine_word_is_not_read_as_a_small_one(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as link:
        link.sendall(CHUNKED + b"10000000000000003\r\nabc\r\n" + SMUGGLED)
        link.shutdown(socket.SHUT_WR)
        assert 200 not in statuses(link.recv(64 * KIB))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"params": {"level": NaN}}',
        b'{"params": {"level": Infinity}}',
        b'{"from_stage": "one", "from_stage": "two"}',
        b'{"params": {"level": ' + b"9" * 10_000 + b"}}",
        b'{"params": {"level": 0.' + b"9" * 10_000 + b"}}",
    ],
    ids=["objects", "depth 100,000", "closed", "NaN", "Infinity", "repeated keys", "10,000 digits", "of a fraction"],
)
def test_json_made_to_hurt_is_refused_as_a_body_and_as_params(job: str, client: httpx.Client, raw: bytes) -> None:
    bodies = [f"/v1/jobs/{job}/{what}" for what in ("cancel", "retry", "webhooks/redeliver")]
    answers = [
        *(client.post(path, content=raw) for path in (*bodies, "/v1/tickets")),
        client.post("/v1/jobs", content=raw, headers={"Content-Type": "application/json"}),
        client.post("/v1/jobs", content=form(PIPELINE, ("params", "", raw.decode()), FILE), headers=FORM),
    ]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(400, "invalid_json")] * len(answers)


ODD = [
    *("*", "{}", "{0}", "{x}", "%20", "a b", "%0d%0a", "%0d%0aSet-Cookie:%20a=b", '"', "'", "%00", "%1b[2J", "\\", "$"),
    *("..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%252e%252e", "a" * 4000, "%ff%fe", "%ed%a0%80", "%c3%a9"),
    *("0" * 31 + "*", "0" * 32 + "%0a", "0" * 31 + "A", "0" * 32 + "|x"),
]


def test_an_id_that_is_none_is_not_found_and_touches_nothing(api: Api, addresses: dict[str, str]) -> None:
    spoken(api, _get("/v1/jobs"))  # whatever the first request writes is there before the count
    with redis.Redis.from_url(addresses["redis_url"]) as journal:
        before = set(journal.keys())
        seen = set()
        for odd in ODD:
            for path in (f"/v1/jobs/{odd}", f"/v1/jobs/{odd}/events", f"/v1/jobs/{'0' * 32}/artifacts/{odd}"):
                answer = spoken(api, _get(path.replace(" ", "%20")))
                seen.add((statuses(answer)[0], _body(answer)))
                assert b"Set-Cookie" not in answer
        made = {key for key in set(journal.keys()) - before if not key.startswith(PartitionKeys(0).slot[:3].encode())}
    assert len(seen) == 1, "the answers differ"
    assert [status for status, _ in seen] == [404]
    assert made == set()


@pytest.mark.parametrize("odd", ODD)
def test_nor_does_an_upload_or_a_feed_of_such_a_name(api: Api, client: httpx.Client, odd: str) -> None:
    files, name = api.files(), odd.replace(" ", "%20")
    head = f"/v1/uploads/{name} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n"
    more = "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: 1\r\n\r\nx"
    raw = [f"HEAD {head}\r\n", f"DELETE {head}\r\n", f"PATCH {head}{more}"]
    assert [statuses(spoken(api, request.encode("latin-1"))) for request in raw] == [[404]] * 3
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{api.port}/v1/jobs/{name}/ws")
    assert refused.value.response.status_code == 403
    answer = client.post("/v1/jobs", json={"pipeline": "sample", "upload": odd})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_upload")
    assert set(api.files()) <= set(files)


def _get(path: str) -> bytes:
    return b"GET " + path.encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: one\r\n\r\n"


def _body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def submitted_under(api: Api, key: str) -> bytes:
    """The answer to a submission by hand."""
    raw, body = b"Idempotency-Key: " + key.encode() + END, form(PIPELINE, FILE)
    return spoken(api, POST + raw + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("odd", ["*", "{}", "{0}:mailbox", "../../x", "$(x)"])
def test_an_idempotency_key_is_a_name_and_nothing_else(api: Api, addresses: dict[str, str], odd: str) -> None:
    first, again = submitted_under(api, odd), submitted_under(api, odd)
    assert statuses(first) == statuses(again) == [202]
    assert json.loads(_body(first))["id"] == json.loads(_body(again))["id"]
    with redis.Redis.from_url(addresses["redis_url"]) as journal:
        named = {key for key in set(journal.keys()) if odd.encode() in key} - {PartitionKeys(0).mailbox.encode()}
    assert named == {f"cs:idempotency:default:{odd}".encode()}
    assert not [name for name in api.files() if odd in name]


@pytest.mark.parametrize("odd", ["é", "\x1b[2J", "a\tb"])
def test_what_cannot_be_seen_or_spelt_is_no_idempotency_key(api: Api, odd: str) -> None:
    assert statuses(submitted_under(api, odd))[0] == 400


def test_nothing_of_a_request_reaches_the_log_as_it_is(make_api: Callable[..., Api]) -> None:
    """No journal here: each request for a job fails, and is logged with its path."""
    api = make_api(path="/healthz", redis_url="unix:///nowhere.sock", log_format="json", log_level="debug")
    attack = "%0d%0aforged%20line%1b[2J%c2%9b31m%e2%80%ae"
    answer = spoken(api, _get(f"/v1/jobs/{'0' * 32}/artifacts/{attack}"))
    assert statuses(answer) == [503]
    spoken(api, GET + b"X\x1b[2J: a\r\n\r\n")
    spoken(api, b"GET /\x1b[2J\xff HTTP/1.1\r\nHost: x\r\n\r\n")
    lines = api.log.read_bytes().decode("ascii").splitlines()
    assert lines
    assert all(line.isprintable() and json.loads(line) for line in lines)
    assert any("forged line" in json.loads(line).get("path", "") for line in lines)


REBOUND = "evil.example"
NOT_OURS = [
    *(REBOUND, f"{REBOUND}:8080", f"x.{REBOUND}", f"127.0.0.1.{REBOUND}", f"localhost.{REBOUND}"),
    *(f"127.0.0.1@{REBOUND}", "a..b", "[::1", "xn--lclhost-9za", ""),
]
OURS = [
    *("localhost", "localhost:1", "LOCALHOST", "localhost.", "a.localhost", "x"),
    *("127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8080", "192.0.2.7"),
]


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_name_of_another_site_that_leads_here_gets_nothing(api: Api, name: str) -> None:
    """DNS rebinding: to the browser the page and the service are of one origin."""
    for asked in ("GET /v1/jobs", "POST /v1/jobs", "GET /docs"):
        raw = f"{asked} HTTP/1.1\r\nHost: {name}\r\nOrigin: http://{name}\r\nConnection: close\r\n\r\n"
        answer = spoken(api, raw.encode())
        assert (statuses(answer), json.loads(_body(answer))["code"]) == ([421], "unknown_host")


def test_such_a_name_gets_no_socket_either(api: Api, job: str) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as link, pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{REBOUND}:{api.port}/v1/jobs/{job}/ws", sock=link)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("name", OURS)
def test_names_of_this_machine_addresses_and_those_allowed_are_answered(api: Api, name: str) -> None:
    raw = f"GET /v1/jobs HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    assert statuses(spoken(api, raw.encode())) == [200]


def test_a_client_too_old_to_say_a_name_is_no_browser_and_is_answered(api: Api) -> None:
    assert statuses(spoken(api, b"GET /healthz HTTP/1.0\r\n\r\n")) == [200]
