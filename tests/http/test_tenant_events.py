"""`GET /v1/events`: history and live feed of all jobs, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
from httpx_sse import connect_sse

from tests.http.service import Api, Stages

SSE = {"Accept": "text/event-stream"}


def test_a_dashboard_begins_with_the_jobs_as_they_are_and_comes_back_where_it_was(
    api: Api, job: str, client: httpx.Client, stages: Stages
) -> None:
    with connect_sse(client, "GET", "/v1/events") as source:
        events = source.iter_sse()
        reset = next(events)
        shown = json.loads(reset.data)
        assert (reset.event, reset.id) == ("reset", "")
        assert [j["seq"] for j in shown["jobs"] if j["id"] == job] == [2]
        other = api.submit().json()["id"]
        stages.start(job, "one")
        seen: list[tuple[str, int]] = []
        last_id = ""
        while (job, 3) not in seen or (other, 2) not in seen:
            event = next(events)
            told, last_id = json.loads(event.data), event.id
            assert (event.event, bool(last_id)) == (told["type"], True)
            seen.append((told["job"], told["seq"]))
    client.post(f"/v1/jobs/{job}/cancel")
    last = client.get(f"/v1/jobs/{job}").json()["seq"]
    with connect_sse(client, "GET", "/v1/events", headers={"Last-Event-ID": last_id}) as source:
        later: list[tuple[str, int]] = []
        for event in source.iter_sse():
            told = json.loads(event.data)
            later.append((told["job"], told["seq"]))
            if later[-1] == (job, last):
                break
    assert set(seen).isdisjoint(later)
    for one, to in ((job, last), (other, 2)):
        numbers = [seq for id_, seq in (*seen, *later) if id_ == one]
        assert numbers == list(range(3 if one == job else 1, to + 1))


def test_history_comes_page_by_page_and_a_cursor_of_it_is_one_of_the_feed(api: Api, client: httpx.Client) -> None:
    start = client.get("/v1/events").json()["next_after"]
    while (page := client.get(f"/v1/events?after={start}").json())["events"]:
        start = page["next_after"]
    job = api.submit().json()["id"]
    told: list[dict[str, Any]] = []
    after = start
    while (page := client.get(f"/v1/events?after={after}&limit=1").json())["events"]:
        told, after = told + page["events"], page["next_after"]
    ours = [e for e in told if e["job"] == job]
    assert [(e["job"], e["seq"], e["type"]) for e in ours] == [
        (job, 1, "JobSubmitted"), (job, 2, "StageDispatched"),
    ]  # fmt: skip
    with connect_sse(client, "GET", f"/v1/events?after={start}") as source:
        live = (json.loads(event.data) for event in source.iter_sse())
        assert next(event for event in live if event["job"] == job) == ours[0]


def test_cursors_that_are_none_and_those_that_are_too_old_are_told_apart(client: httpx.Client) -> None:
    cursor = client.get("/v1/events").json()["next_after"]
    for headers in ({}, SSE):
        answer = client.get("/v1/events?after=soon", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    old = ".".join(["1", *cursor.split(".")[1:]])
    answer = client.get(f"/v1/events?after={old}")
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_lost")
    with connect_sse(client, "GET", f"/v1/events?after={old}") as source:
        assert next(source.iter_sse()).event == "reset"


def test_silence_is_broken_by_pings(client: httpx.Client) -> None:
    with client.stream("GET", "/v1/events", headers=SSE) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        assert next(line for line in lines if line == ": ping") == ": ping"
