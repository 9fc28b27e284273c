"""One key, one job: repeated, at the same time, and after a crash between any two steps (I6, I7, I8)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from callsheet.actors.stores.folder import FolderStore
from tests.http.service import Api, submit
from tests.waiting import eventually


def jobs_of(api: Api) -> set[str]:
    """Every job of the store."""
    return {name.split("/")[1] for name in api.files() if name.startswith("jobs/")}


def test_the_same_key_and_body_are_the_same_job(api: Api, client: httpx.Client) -> None:
    key = secrets.token_hex(8)
    first, second = api.submit(key=key), api.submit(key=f'"{key}"')
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    events = client.get(f"{first.headers['location']}/events").json()["events"]
    assert [e["type"] for e in events] == ["JobSubmitted", "StageDispatched"]


def test_the_same_key_with_anything_else_is_refused_and_changes_nothing(api: Api) -> None:
    key = secrets.token_hex(8)
    job = api.submit(key=key).json()
    before = api.files()
    for other in (
        api.submit(b"other", key=key), api.submit(key=key, name="b.wav"), api.submit(key=key, params='{"level": 4}')
    ):  # fmt: skip
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert set(api.files()) <= set(before)
    assert httpx.get(f"{api.url}/v1/jobs/{job['id']}").json() == job


def test_a_key_outlives_the_end_of_its_job_and_does_not_bring_it_back(api: Api, client: httpx.Client) -> None:
    key = secrets.token_hex(8)
    where = api.submit(key=key).headers["location"]
    client.post(f"{where}/cancel")
    assert api.submit(key=key).json()["status"] == "cancelled"
    client.delete(where)
    again = api.submit(key=key)
    assert (again.status_code, again.json()["code"]) == (410, "job_expired")
    eventually(lambda: where.rpartition("/")[2] not in jobs_of(api))


def test_twenty_at_the_same_time_are_one_job(api: Api, client: httpx.Client) -> None:
    key, before = secrets.token_hex(8), jobs_of(api)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: submit(api.url, key=key), range(20)))
    assert {a.status_code for a in answers} == {202}
    (job,) = {a.json()["id"] for a in answers}
    assert jobs_of(api) - before == {job}
    events = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [e["type"] for e in events].count("JobSubmitted") == 1


def test_of_different_bodies_at_the_same_time_one_wins_and_keeps_its_own_file(api: Api) -> None:
    key = secrets.token_hex(8)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: submit(api.url, b"x" * (n + 1), key=key), range(20)))
    won = [a.json() for a in answers if a.status_code == 202]
    lost = [a.json()["code"] for a in answers if a.status_code == 422]
    assert (len(won), lost) == (1, ["idempotency_key_reused"] * 19)
    source = api.data / "store" / "jobs" / won[0]["id"] / "input" / "source"
    assert source.stat().st_size == won[0]["input"]["bytes"]
    eventually(lambda: not [name for name in api.files() if name.startswith("incoming/")])


@pytest.mark.parametrize("point", ["api.sending", "api.sent"])
def test_a_submission_cut_off_by_a_crash_is_one_job_when_repeated(
    make_api: Callable[..., Api], api: Api, client: httpx.Client, point: str
) -> None:
    """The API dies right before, or right after, the message is in the mailbox; the client asks again elsewhere."""
    key = secrets.token_hex(8)
    doomed = make_api(failpoints=f"{point}=1", data=str(api.data))
    with pytest.raises(httpx.HTTPError):
        doomed.submit(key=key)
    doomed.kill()
    answer = api.submit(key=key)
    assert answer.status_code == 202
    job = answer.json()["id"]
    listed = client.get("/v1/jobs?limit=10").json()["jobs"]
    assert [j["id"] for j in listed].count(job) == 1
    events = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [e["type"] for e in events].count("JobSubmitted") == 1
    eventually(lambda: not [name for name in api.files() if name.startswith("incoming/")])


def test_without_a_key_each_is_a_job_of_its_own(api: Api) -> None:
    assert api.submit().json()["id"] != api.submit().json()["id"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, '"', '"a', 'a"'])
def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    form = {"pipeline": "sample"}
    answer = httpx.post(f"{api.url}/v1/jobs", data=form, files={"file": ("a", b"x")}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_an_input_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """What two submissions under one key race for, step by step: the second must not take the file of the first."""
    store, job = FolderStore(tmp_path), "0" * 32
    for content, kept in ((b"first", True), (b"other", False), (b"first", True)):
        upload = store.new_upload()
        upload.write(content)
        assert store.accept_input(job, upload) is kept
        upload.discard()
        assert store.input_path(job).read_bytes() == b"first"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [store.input_path(job)]


def keyed(key: str, **more: str) -> dict[str, str]:
    return {"Idempotency-Key": key, **more}


def kinds(client: httpx.Client, where: str) -> list[str]:
    return [event["type"] for event in client.get(f"{where}/events").json()["events"]]


def test_a_command_that_is_repeated_under_its_key_is_answered_and_not_applied_again(
    api: Api, client: httpx.Client
) -> None:
    where, key = api.submit().headers["location"], secrets.token_hex(8)
    client.post(f"{where}/cancel")
    first, second = (client.post(f"{where}/retry", headers=keyed(key)) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert (first.json()["attempt"], second.json()["attempt"]) == (2, 2)
    client.post(f"{where}/cancel")
    third = client.post(f"{where}/retry", headers=keyed(key))
    assert (third.status_code, third.json()["attempt"], third.json()["status"]) == (202, 2, "cancelled")
    assert kinds(client, where).count("JobRetried") == 1


def test_a_job_is_forgotten_under_a_key_as_often_as_asked(api: Api, client: httpx.Client) -> None:
    where, key = api.submit().headers["location"], secrets.token_hex(8)
    client.post(f"{where}/cancel")
    tag = client.get(where).headers["etag"]
    thrice = [client.delete(where, headers=keyed(key, **{"If-Match": tag})) for _ in range(3)]
    assert [(a.status_code, a.content) for a in thrice] == [(204, b"")] * 3
    late = client.delete(where, headers=keyed(secrets.token_hex(8)))
    assert (late.status_code, late.json()["code"]) == (410, "job_expired")


def test_a_refusal_is_repeated_under_its_key_too(api: Api, client: httpx.Client) -> None:
    where, key = api.submit().headers["location"], secrets.token_hex(8)
    first = client.post(f"{where}/retry", headers=keyed(key))
    client.post(f"{where}/cancel")
    second = client.post(f"{where}/retry", headers=keyed(key))
    assert [a.json()["code"] for a in (first, second)] == ["job_active", "job_active"]


def test_another_command_or_body_under_a_key_that_was_used_is_refused(api: Api, client: httpx.Client) -> None:
    where, key = api.submit().headers["location"], secrets.token_hex(8)
    assert client.post(f"{where}/cancel", headers=keyed(key)).status_code == 202
    for answer in (
        client.post(f"{where}/retry", headers=keyed(key)),
        client.delete(where, headers=keyed(key)),
        client.post(f"{where}/cancel", headers=keyed(key, **{"If-Match": '"999"'})),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert client.get(where).json()["status"] == "cancelled"


def test_a_repeated_command_with_if_match_is_answered_though_the_job_has_moved(api: Api, client: httpx.Client) -> None:
    answer, key = api.submit(), secrets.token_hex(8)
    where, tag = answer.headers["location"], answer.headers["etag"]
    twice = [client.post(f"{where}/cancel", headers=keyed(key, **{"If-Match": tag})) for _ in range(2)]
    assert [a.status_code for a in twice] == [202, 202]
    late = client.post(f"{where}/retry", headers=keyed(secrets.token_hex(8), **{"If-Match": tag}))
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")


def test_ten_of_the_same_command_at_once_are_one(api: Api, client: httpx.Client) -> None:
    where, key = api.submit().headers["location"], secrets.token_hex(8)
    client.post(f"{where}/cancel")
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"{api.url}{where}/retry", headers=keyed(key), timeout=30), range(10))
        )
    assert {a.status_code for a in answers} == {202}
    assert kinds(client, where).count("JobRetried") == 1


def test_the_same_key_for_two_jobs_is_two_commands(api: Api, client: httpx.Client) -> None:
    key = secrets.token_hex(8)
    for where in (api.submit().headers["location"] for _ in range(2)):
        assert client.post(f"{where}/cancel", headers=keyed(key)).status_code == 202
        assert client.get(where).json()["status"] == "cancelled"
