"""Every problem of the table can happen, and looks as RFC 9457 wants it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from callsheet.config.settings import Settings
from callsheet.http.problems import PROBLEMS, Problem
from tests.http.refusals import LIVE
from tests.http.service import Api, Stages
from tests.http.trouble import INSIDE, ask_inside, submit_inside


@pytest.mark.parametrize("code", LIVE)
def test_a_client_is_refused_with(code: str, client: httpx.Client, job: str, stages: Stages) -> None:
    check(LIVE[code](client, job, stages), code)


def check(answer: httpx.Response, code: str) -> None:
    status, title = PROBLEMS[code]
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["code"], problem["status"], problem["title"]) == (code, status, title)
    assert problem["type"] == f"urn:callsheet:problem:{code}"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert problem.get("request_id") == (answer.headers["x-request-id"] if status >= 500 else None)
    if status == 405:
        assert answer.headers["allow"]
    if status == 429:
        assert int(answer.headers["retry-after"]) > 0
    if status == 503 and code != "corrupt_record":
        assert answer.headers["retry-after"] == "2"


@pytest.fixture
def inside(settings: Settings) -> Settings:
    return settings.model_copy(update={"pipelines": ("tests.http.sample:pipeline",), "reply_timeout": 0.2})


@pytest.mark.parametrize("code", INSIDE)
def test_trouble_inside_is_told_as(code: str, inside: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = asyncio.run(INSIDE[code](inside, monkeypatch))
    check(answer, code)
    assert not {"Traceback", "AssertionError", "redis", "nowhere", str(inside.data)} & set(answer.text.split())
    assert "nowhere" not in answer.text


# Told in the shape of the OpenAI API: see test_openai.py.
ELSEWHERE = {"input_refused", "job_cancelled", "job_failed", "job_takes_long", "unknown_model"}


def test_every_problem_of_the_table_is_produced() -> None:
    assert set(PROBLEMS) == set(LIVE) | set(INSIDE) | ELSEWHERE


def test_an_origin_that_cannot_be_read_is_a_foreign_one(client: httpx.Client, job: str) -> None:
    answer = client.post(f"/v1/jobs/{job}/cancel", headers={"Origin": "http://["})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_origin")


def test_a_server_error_says_nothing_about_its_cause() -> None:
    assert b"secret" not in Problem("internal", "secret").body()


def test_an_unwritten_job_is_shown_as_it_was_submitted(inside: Settings) -> None:
    """No host runs here: the owner does not answer, and the client is told where to look."""
    answer = asyncio.run(submit_inside(inside))
    job = answer.json()
    assert (answer.status_code, job["status"], job["seq"], answer.headers["etag"]) == (202, "queued", 0, '"0"')
    again = asyncio.run(ask_inside(inside, "GET", answer.headers["location"]))
    assert (again.status_code, again.json()["id"], again.json()["input"]) == (200, job["id"], job["input"])
    (listed,) = asyncio.run(ask_inside(inside, "GET", "/v1/jobs?status=queued")).json()["jobs"]
    assert (listed["id"], listed["seq"], listed["input"]) == (job["id"], 0, job["input"])
    cancel = asyncio.run(ask_inside(inside, "POST", f"{answer.headers['location']}/cancel"))
    assert (cancel.status_code, cancel.headers["location"]) == (202, answer.headers["location"])
    events = asyncio.run(ask_inside(inside, "GET", f"{answer.headers['location']}/events"))
    assert events.json() == {"events": [], "next_after": 0}


def test_the_live_log_has_no_traceback(api: Api) -> None:
    assert "Traceback" not in Path(api.log).read_text()
