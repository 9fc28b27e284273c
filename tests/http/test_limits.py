"""How much a tenant may ask for, over two APIs that share nothing but Redis."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import TypeVar

import httpx
import pytest
import redis
from websockets.sync.client import connect

from callsheet.actors.tenants.keyring import KeyStore
from callsheet.actors.tenants.limits import OwnLimits, Tenants, limits_of
from callsheet.actors.tenants.places import Places
from callsheet.config.settings import Settings
from tests.http.service import Api, Role, Stages
from tests.http.tus import begin, patch
from tests.waiting import eventually

T = TypeVar("T")
Make = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def two(addresses: dict[str, str], host: Role, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Api]]:
    """Two APIs that need keys, on the files of the live service."""
    folder = tmp_path_factory.mktemp("two")
    asked = {**addresses, "auth": "keys", "api_workers": "1"}
    apis = [Api(folder / f"api-{n}.log", **asked) for n in range(2)]
    try:
        for api in apis:
            api.wait()
        yield apis
    finally:
        for api in apis:
            api.kill()


@pytest.fixture(scope="module")
def tenant(addresses: dict[str, str]) -> Iterator[Make]:
    """Make a tenant with limits of its own: the headers of its requests."""
    with redis.Redis.from_url(addresses["redis_url"]) as journal:

        def make(name: str, **own: float) -> dict[str, str]:
            Tenants(journal, limits_of(Settings())).set(name, OwnLimits(**own))  # type: ignore[arg-type]
            return {"X-API-Key": KeyStore(journal).create(name, ("read", "write"))[1]}

        yield make


def submit(api: Api, headers: dict[str, str], content: bytes = b"sound") -> httpx.Response:
    form = {"data": {"pipeline": "sample"}, "files": {"file": ("a.wav", content, "audio/wav")}}
    return httpx.post(f"{api.url}/v1/jobs", headers=headers, timeout=30, **form)  # type: ignore[arg-type]


def open_jobs(api: Api, headers: dict[str, str]) -> int:
    """How many jobs have not ended: of those here, none runs before its stages are played."""
    answer = httpx.get(f"{api.url}/v1/jobs?status=queued&limit=200", headers=headers)
    return len(answer.json()["jobs"])


def in_line(url: str, what: Callable[[Places], Awaitable[T]]) -> T:
    """Do something to the lines of tenants, as another API would."""

    async def scenario() -> T:
        places = Places(url)
        try:
            return await what(places)
        finally:
            await places.close()

    return asyncio.run(scenario())


def test_a_rate_holds_over_all_apis_and_says_what_is_left(two: list[Api], tenant: Make) -> None:
    hasty, other = tenant("hasty", rate=0.01, burst=4), tenant("patient")
    answers = [httpx.get(f"{api.url}/v1/jobs", headers=hasty) for api in islice(cycle(two), 6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=4;w=400'}
    assert [answer.headers["RateLimit"].split(";t=")[0] for answer in answers] == [
        f'"requests";r={left}' for left in (3, 2, 1, 0, 0, 0)
    ]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 100
    assert answers[-1].json()["code"] == "rate_limited"
    assert httpx.get(f"{two[0].url}/v1/jobs", headers=other).status_code == 200
    assert httpx.get(f"{two[0].url}/healthz", headers=hasty).status_code == 200


def test_open_jobs_are_limited_and_the_end_of_one_makes_room(two: list[Api], tenant: Make, stages: Stages) -> None:
    headers = tenant("busy", open=2)
    made = [submit(api, headers) for api in two]
    assert [answer.status_code for answer in made] == [202, 202]
    refused = submit(two[0], headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    assert int(refused.headers["Retry-After"]) > 0
    stages.complete(made[0].json()["id"])
    assert submit(two[1], headers).status_code == 202


def test_submissions_and_retries_at_the_same_moment_open_no_more_jobs_than_there_may_be(
    two: list[Api], tenant: Make, stages: Stages
) -> None:
    headers = tenant("rush", open=10)
    ended = [submit(two[0], headers).json()["id"] for _ in range(3)]
    for job in ended:
        stages.complete(job)

    def ask(n: int) -> int:
        if n % 5:
            return submit(two[n % 2], headers).status_code
        return httpx.post(f"{two[n % 2].url}/v1/jobs/{ended[n // 5 % 3]}/retry", headers=headers).status_code

    with ThreadPoolExecutor(50) as many:
        answers = Counter(many.map(ask, range(50)))
    assert set(answers) <= {202, 409, 429}
    assert 1 <= answers[202] <= 10
    assert open_jobs(two[0], headers) == answers[202]
    left = (submit(two[n % 2], headers).status_code for n in range(20))  # nobody else is on the way: all places count
    assert Counter(left)[202] == 10 - answers[202]
    assert open_jobs(two[1], headers) == 10


def test_who_finds_the_last_place_taken_leaves_no_file_and_keeps_the_upload(
    two: list[Api], tenant: Make, addresses: dict[str, str]
) -> None:
    headers = tenant("late", open=1)
    with httpx.Client(base_url=two[0].url, headers=headers, timeout=30) as client:
        path = begin(client, 5)
        assert patch(client, path, 0, b"sound").status_code == 204
        before = two[0].files()
        taken = in_line(addresses["broker_url"], lambda places: places.take("late"))
        by_upload = {"pipeline": "sample", "upload": path}
        answers = [submit(two[0], headers), client.post("/v1/jobs", json=by_upload)]
        assert [(a.status_code, a.json()["code"]) for a in answers] == [(429, "too_many_jobs")] * 2
        assert two[0].files() == before
        in_line(addresses["broker_url"], lambda places: places.give_back("late", taken[0]))
        assert client.post("/v1/jobs", json=by_upload).status_code == 202


def test_a_retry_makes_no_more_open_jobs_than_there_may_be(two: list[Api], tenant: Make, stages: Stages) -> None:
    headers = tenant("again", open=1, stored=2)
    ended = submit(two[0], headers).json()["id"]
    stages.complete(ended)
    other = submit(two[0], headers).json()["id"]
    active = httpx.post(f"{two[1].url}/v1/jobs/{other}/retry", headers=headers)
    assert (active.status_code, active.json()["code"]) == (409, "job_active")  # it opens none, and has its place itself
    retry = f"{two[1].url}/v1/jobs/{ended}/retry"
    refused = httpx.post(retry, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    with connect(f"ws{two[1].url[4:]}/v1/jobs/{ended}/ws", additional_headers=headers) as socket:
        socket.send('{"type": "retry"}')
        frames = (json.loads(socket.recv(10)) for _ in range(100))
        outcome = next(frame for frame in frames if frame["type"] == "outcome")
    assert (outcome["ok"], outcome["code"]) == (False, "too_many_jobs")
    stages.complete(other)
    named = headers | {"Idempotency-Key": "again"}
    assert [httpx.post(retry, headers=named).status_code for _ in range(2)] == [202, 202]


def test_a_repeated_submission_is_its_job_even_where_no_more_are_taken(two: list[Api], tenant: Make) -> None:
    headers = tenant("full", open=1) | {"Idempotency-Key": "once"}
    first = submit(two[0], headers)
    again = submit(two[1], headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert submit(two[0], headers | {"Idempotency-Key": "twice"}).status_code == 429


def test_stored_jobs_are_limited_until_some_are_forgotten(two: list[Api], tenant: Make, stages: Stages) -> None:
    headers = tenant("keeper", stored=1)
    job = submit(two[0], headers).json()["id"]
    stages.complete(job)
    assert submit(two[1], headers).json()["code"] == "too_many_jobs"
    assert httpx.delete(f"{two[0].url}/v1/jobs/{job}", headers=headers).status_code == 204
    eventually(lambda: submit(two[1], headers).status_code == 202)


def test_the_bytes_of_a_tenant_never_pass_its_quota(two: list[Api], tenant: Make, stages: Stages) -> None:
    headers = tenant("small", bytes=1000)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda n: submit(two[n % 2], headers, b"x" * 300), range(12)))
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    refused = [answer.json()["code"] for answer in answers if answer.status_code == 413]
    assert 1 <= len(accepted) <= 3
    assert refused == ["quota_exceeded"] * (12 - len(accepted))
    while len(accepted) < 3:  # those that were on their way held room, and have given it back
        accepted.append(eventually(lambda: submit(two[0], headers, b"x" * 300).json().get("id")))
    assert submit(two[0], headers, b"x" * 101).status_code == 413
    eventually(lambda: submit(two[1], headers, b"x" * 100).status_code == 202)  # the others may be giving back still
    stages.complete(accepted[0])
    assert httpx.delete(f"{two[0].url}/v1/jobs/{accepted[0]}", headers=headers).status_code == 204
    eventually(lambda: submit(two[1], headers, b"x" * 300).status_code == 202)


def test_a_disk_without_room_is_told_as_such_and_nothing_is_kept(make_api: Callable[..., Api]) -> None:
    api = make_api(min_free_bytes=str(2**60), path="/healthz")
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
    answers = [submit(api, {}), httpx.post(f"{api.url}/v1/uploads", headers=tus)]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(507, "storage_full")] * 2
    assert api.files() == []
