"""Who may do what: keys, scopes and tickets over a service that needs them; a foreign job is like no job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from callsheet.actors.tenants.keyring import digest_of
from callsheet.actors.tenants.names import ticket as ticket_name
from callsheet.http.auth import OPEN
from callsheet.http.openapi.document import OPERATIONS
from tests.http.service import Api, Role, Stages, command, served
from tests.waiting import eventually

UNKNOWN = "f" * 32
NOBODY = f"csk_{'A' * 43}"


@pytest.fixture(scope="module")
def keys(addresses: dict[str, str]) -> Callable[..., str]:
    """Make a key with the command line: `keys("acme", "read")`."""

    def make(tenant: str, *scopes: str) -> str:
        return command(addresses, "create", "--tenant", tenant, *(part for s in scopes for part in ("--scope", s)))

    return make


@pytest.fixture(scope="module")
def guarded(addresses: dict[str, str], host: Role, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that needs keys, on the files of the live service."""
    folder = tmp_path_factory.mktemp("guarded")
    asked = {
        "auth": "keys",
        "api_workers": "1",
        "feed_ping_seconds": "0.5",
        "log_level": "debug",
        "rate_per_second": "0",
    }
    with served(folder / "api.log", **{**addresses, **asked}) as role:
        yield role
    assert "Traceback" not in role.said()


@pytest.fixture(scope="module")
def acme(keys: Callable[..., str], guarded: Api) -> dict[str, str]:
    return known(guarded, {"Authorization": f"Bearer {keys('acme', 'read', 'write')}"})


@pytest.fixture(scope="module")
def reader(keys: Callable[..., str], guarded: Api) -> str:
    return known(guarded, {"X-API-Key": keys("acme", "read")})["X-API-Key"]


@pytest.fixture(scope="module")
def other(keys: Callable[..., str], guarded: Api) -> dict[str, str]:
    return known(guarded, {"X-API-Key": keys("other", "admin")})


def known(api: Api, headers: dict[str, str]) -> dict[str, str]:
    """A new key: that API knows it at once."""
    assert httpx.get(f"{api.url}/v1/jobs", headers=headers).status_code == 200
    return headers


@pytest.fixture(scope="module")
def acmes_job(guarded: Api, acme: dict[str, str], stages: Stages) -> str:
    """A completed job of the tenant acme, with an artifact."""
    job = submitted(guarded, acme)
    stages.complete(job, **{"a.txt": b"hello"})
    return job


def submitted(guarded: Api, headers: dict[str, str]) -> str:
    """A job of whoever has that key, whose first stage is dispatched."""
    files = {"file": ("a.wav", b"sound", "audio/wav")}
    answer = httpx.post(f"{guarded.url}/v1/jobs", headers=headers, data={"pipeline": "sample"}, files=files)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def seen(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """All that a client can tell an answer by, but for the time of day, the request's name, how often it asked."""
    passing = ("date", "x-request-id", "ratelimit")
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k not in passing}


def bad_keys(good: str, acme: dict[str, str], other: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """No key, wrong ones, and good ones in wrong places: a query and headers each."""
    return [
        ("", {}),
        ("", {"X-API-Key": NOBODY}),
        ("", {"X-API-Key": ""}),
        ("", {"X-API-Key": "k" * 5000}),
        ("", {"Authorization": f"Bearer {NOBODY}"}),
        ("", {"Authorization": "Bearer"}),
        ("", {"Authorization": f"Basic {good}"}),
        ("", {"Authorization": good}),
        ("", {**acme, **other}),
        ("", {**acme, "X-API-Key": NOBODY}),
        (f"?key={good}&api_key={good}&access_token={good}&ticket={good}", {}),
        (f"?X-API-Key={good}&authorization=Bearer%20{good}&token={good}&apikey={good}", {}),
    ]


ROUTES = [route for route in OPERATIONS if route[1] not in OPEN]


@pytest.mark.parametrize("route", ROUTES, ids=[" ".join(route) for route in ROUTES])
def test_without_a_good_key_every_answer_is_the_same_401(
    guarded: Api, acme: dict[str, str], other: dict[str, str], acmes_job: str, route: tuple[str, str]
) -> None:
    """Whatever is wrong with it, and whether there is such a job or not."""
    good = acme["Authorization"].removeprefix("Bearer ")
    answers, (method, path) = set(), route
    with httpx.Client(base_url=guarded.url) as client:
        for query, headers in bad_keys(good, acme, other):
            for job in (acmes_job, UNKNOWN):
                where = path.format(job_id=job, upload_id=UNKNOWN, name="a.txt")
                answers.add(repr(seen(client.request(method, where + query, headers=headers))))
        refused = client.request(method, path.format(job_id=acmes_job, upload_id=UNKNOWN, name="a.txt"))
    assert len(answers) == 1, answers
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="callsheet"'
    if method != "HEAD":
        assert "unauthorized" in refused.text or "invalid_api_key" in refused.text


def test_without_a_good_key_there_is_no_socket(
    guarded: Api, acme: dict[str, str], other: dict[str, str], acmes_job: str
) -> None:
    good = acme["Authorization"].removeprefix("Bearer ")
    for query, headers in bad_keys(good, acme, other):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws{guarded.url[4:]}/v1/jobs/{acmes_job}/ws{query}", additional_headers=headers)
        assert refused.value.response.status_code == 403


def test_no_key_is_ever_logged(guarded: Api, acme: dict[str, str], other: dict[str, str]) -> None:
    """Good or not, and wherever it was shown; the log says all that it can."""
    good = acme["Authorization"].removeprefix("Bearer ")
    for query, headers in bad_keys(good, acme, other):
        httpx.get(f"{guarded.url}/v1/jobs{query}", headers=headers)
    said = guarded.said()
    assert "debug" in said
    assert not [key for key in (good, NOBODY, other["X-API-Key"], "k" * 100) if key in said]


def test_either_header_lets_in_and_both_if_they_say_the_same(guarded: Api, acme: dict[str, str]) -> None:
    secret = acme["Authorization"].removeprefix("Bearer ")
    for headers in (acme, {"X-API-Key": secret}, {**acme, "X-API-Key": secret}, {"Authorization": f"bearer {secret}"}):
        assert httpx.get(f"{guarded.url}/v1/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json", "/docs", "/try"])
def test_what_says_nothing_of_anybody_is_open(guarded: Api, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


def test_a_foreign_job_is_byte_for_byte_an_unknown_one_on_every_route(
    guarded: Api, acmes_job: str, acme: dict[str, str], other: dict[str, str]
) -> None:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    upload = httpx.post(f"{guarded.url}/v1/uploads", headers={**acme, **tus}).headers["Location"].rpartition("/")[2]
    about = [(method, path) for method, path in OPERATIONS if "{job_id}" in path or "{upload_id}" in path]
    routes = [(method, path) for method, path in about if method != "OPTIONS"]
    heads = [("HEAD", path) for method, path in routes if method == "GET"]
    offered = [{}, {"Accept": "text/event-stream"}, {"If-None-Match": "*"}, {"Last-Event-ID": "0"}]
    ids = {"job_id": acmes_job, "upload_id": upload, "name": "a.txt"}
    assert len(routes) >= 12
    with httpx.Client(base_url=guarded.url, headers={**other, **tus, "Upload-Offset": "0"}) as client:
        for method, path in routes + heads:
            for more in offered if method != "PATCH" else [{"Content-Type": "application/offset+octet-stream"}]:
                foreign, unknown = (
                    seen(client.request(method, path.format(**found), headers=more))
                    for found in (ids, {**ids, "job_id": UNKNOWN, "upload_id": UNKNOWN})
                )
                assert foreign == unknown, (method, path, more)
                assert foreign[0] == 404, (method, path, more)
        assert client.get("/v1/jobs").json() == {"jobs": [], "next": None}
    assert httpx.get(f"{guarded.url}/v1/jobs/{acmes_job}", headers=acme).json()["status"] == "completed"
    for job in (acmes_job, UNKNOWN):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws{guarded.url[4:]}/v1/jobs/{job}/ws", additional_headers=other)
        assert refused.value.response.status_code == 403


def test_the_same_idempotency_key_of_another_tenant_is_another_key(
    guarded: Api, acme: dict[str, str], other: dict[str, str]
) -> None:
    made = {
        httpx.post(
            f"{guarded.url}/v1/jobs",
            headers={**headers, "Idempotency-Key": "one"},
            data={"pipeline": "sample"},
            files={"file": ("a.wav", b"sound", "audio/wav")},
        ).json()["id"]
        for headers in (acme, acme, other)
    }
    assert len(made) == 2
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Idempotency-Key": "one"}
    begun = [httpx.post(f"{guarded.url}/v1/uploads", headers={**h, **tus}) for h in (acme, acme, other)]
    assert [answer.status_code for answer in begun] == [201] * 3
    assert len({answer.headers["Location"] for answer in begun}) == 2


def test_a_key_does_what_its_scope_allows(guarded: Api, acmes_job: str, reader: str, keys: Callable[..., str]) -> None:
    headers, writer = {"X-API-Key": reader}, {"X-API-Key": keys("acme", "write")}
    eventually(lambda: httpx.get(f"{guarded.url}/v1/jobs", headers=writer).status_code == 403)
    path = f"{guarded.url}/v1/jobs/{acmes_job}"
    assert httpx.get(path, headers=headers).status_code == 200
    for method, rest in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
        refused = httpx.request(method, path + rest, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert httpx.post(f"{guarded.url}/v1/jobs", headers=headers).status_code == 403
    assert httpx.get(path, headers=writer).status_code == 403
    assert httpx.post(f"{path}/cancel", headers=writer).status_code == 409  # it may, but the job has ended
    assert httpx.get(f"{guarded.url}/metrics", headers=headers).status_code == 403  # figures of all tenants
    for way_round in ("//metrics", "///metrics", "//v1/jobs"):
        around = httpx.get(f"{guarded.url}{way_round}", headers=headers)
        assert (around.status_code, around.json()["code"]) == (404, "not_found")
    admin = {"X-API-Key": keys("acme", "admin")}
    eventually(lambda: httpx.get(f"{guarded.url}/metrics", headers=admin).status_code == 200)


def test_over_a_websocket_a_key_does_no_more_than_elsewhere(guarded: Api, acme: dict[str, str], reader: str) -> None:
    address = f"ws{guarded.url[4:]}/v1/jobs/{submitted(guarded, acme)}/ws"
    outcomes = []
    for headers in ({"X-API-Key": reader}, acme):
        with connect(address, additional_headers=headers) as socket:
            socket.send('{"type": "cancel"}')
            frames = (json.loads(socket.recv(10)) for _ in range(100))
            outcomes.append(next(frame for frame in frames if frame["type"] == "outcome"))
    assert [(outcome["ok"], outcome["code"]) for outcome in outcomes] == [(False, "forbidden"), (True, "accepted")]


def test_over_a_websocket_that_outlives_its_key_nothing_is_commanded(
    guarded: Api, acme: dict[str, str], addresses: dict[str, str], keys: Callable[..., str]
) -> None:
    headers = known(guarded, {"X-API-Key": keys("acme", "write", "read")})
    listed = [line for line in command(addresses, "list").splitlines() if " acme " in line]
    address = f"ws{guarded.url[4:]}/v1/jobs/{submitted(guarded, acme)}/ws"
    with connect(address, additional_headers=headers) as socket:
        command(addresses, "revoke", listed[-1].split()[0])  # the newest
        eventually(lambda: httpx.get(f"{guarded.url}/v1/jobs", headers=headers).status_code == 401)
        socket.send('{"type": "cancel"}')
        frames = (json.loads(socket.recv(10)) for _ in range(100))
        outcome = next(frame for frame in frames if frame["type"] == "outcome")
    assert (outcome["ok"], outcome["code"]) == (False, "forbidden")


def test_a_ticket_opens_one_live_feed_and_nothing_else(
    guarded: Api, acmes_job: str, reader: str, addresses: dict[str, str]
) -> None:
    def ticket() -> str:
        answer = httpx.post(f"{guarded.url}/v1/tickets", headers={"X-API-Key": reader})
        assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
        assert answer.json()["expires_in"] == 30
        return str(answer.json()["ticket"])

    events = f"{guarded.url}/v1/jobs/{acmes_job}/events"
    stream = {"Accept": "text/event-stream"}
    first = ticket()
    assert httpx.get(events, params={"ticket": first}).status_code == 401  # no stream
    for other in ("/v1/jobs", f"/v1/jobs/{acmes_job}", f"/v1/jobs/{acmes_job}/artifacts/events", "/v1/pipelines"):
        assert httpx.get(f"{guarded.url}{other}", params={"ticket": first}, headers=stream).status_code == 401
    assert b"JobCompleted" in httpx.get(events, params={"ticket": first}, headers=stream).content
    assert httpx.get(events, params={"ticket": first}, headers=stream).status_code == 401  # it was used

    second = ticket()
    address = f"ws{guarded.url[4:]}/v1/jobs/{acmes_job}/ws?after=0&ticket={second}"
    with connect(address) as socket:
        assert '"JobSubmitted"' in socket.recv(10)
    with pytest.raises(InvalidStatus):
        connect(address)
    with pytest.raises(InvalidStatus):
        connect(f"ws{guarded.url[4:]}/v1/jobs/{acmes_job}/ws")
    assert httpx.post(f"{guarded.url}/v1/tickets").status_code == 401
    named = {"X-API-Key": reader, "Idempotency-Key": "one"}
    twice = [httpx.post(f"{guarded.url}/v1/tickets", headers=named).json()["ticket"] for _ in range(2)]
    assert twice[0] != twice[1]  # nobody keeps one to show it again

    late = ticket()
    with redis.Redis.from_url(addresses["redis_url"]) as journal:
        name = ticket_name(digest_of(late))
        assert 0 < journal.pttl(name) <= 30_000
        journal.pexpire(name, 1)
        eventually(lambda: not journal.exists(name))
    assert httpx.get(events, params={"ticket": late}, headers=stream).status_code == 401
    assert not [secret for secret in (first, second, late, reader) if secret in guarded.said()]


def test_a_new_key_counts_at_once_and_a_revoked_one_soon_no_more(
    guarded: Api, addresses: dict[str, str], keys: Callable[..., str]
) -> None:
    secret = keys("gone", "read")
    listed = next(line for line in command(addresses, "list").splitlines() if " gone " in line)
    assert secret not in listed
    headers = {"X-API-Key": secret}
    assert httpx.get(f"{guarded.url}/v1/jobs", headers=headers).status_code == 200
    command(addresses, "revoke", listed.split()[0])
    eventually(lambda: httpx.get(f"{guarded.url}/v1/jobs", headers=headers).status_code == 401)
    assert "there is no key" in command(addresses, "revoke", listed.split()[0], fails=True)


def test_the_command_line_says_in_one_line_what_is_wrong(addresses: dict[str, str]) -> None:
    assert "no name of a tenant" in command(addresses, "create", "--tenant", "A B", fails=True)
    assert "no name of a tenant" in command(addresses, "set", "A B", "--rate", "5", what="tenants", fails=True)
    for quota in ("lots", "0", "-1GiB"):
        said = command(addresses, "set", "acme", "--quota", quota, what="tenants", fails=True)
        assert said.startswith("--quota takes a number of bytes, such as 20GiB")
    away = {**addresses, "redis_url": "redis://127.0.0.1:1"}
    said = command(away, "list", fails=True)
    assert "is CALLSHEET_REDIS_URL right" in said
    assert "\n" not in said


def test_a_tenant_is_given_limits_of_its_own(addresses: dict[str, str]) -> None:
    def shown() -> list[list[str]]:
        lines = command(addresses, "list", what="tenants").splitlines()
        return [line.split() for line in lines if line.startswith("quiet ")]

    command(addresses, "set", "quiet", "--rate", "5", "--quota", "20GiB", "--max-active", "2", what="tenants")
    assert shown() == [["quiet", "rate=5.0", "active=2", "bytes=21474836480"]]
    command(addresses, "set", "quiet", what="tenants")
    assert shown() == []
