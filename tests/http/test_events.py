"""Events as history and as Server-Sent Events."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest

from tests.http.service import Api, Stages
from tests.http.watching import SSE, history, watch


@pytest.fixture
def done(job: str, stages: Stages) -> str:
    """A completed job with some progress in its history."""
    stages.complete(job, 10)
    return job


def test_the_history_comes_page_by_page_and_ends_where_the_job_is(done: str, client: httpx.Client) -> None:
    seen, after = list[dict[str, Any]](), 0
    while page := client.get(f"/v1/jobs/{done}/events?after={after}&limit=4").json():
        assert len(page["events"]) <= 4
        if not page["events"]:
            assert page == {"events": [], "next_after": after}
            break
        seen += page["events"]
        assert page["next_after"] == seen[-1]["seq"]
        after = page["next_after"]
    assert [e["seq"] for e in seen] == list(range(1, client.get(f"/v1/jobs/{done}").json()["seq"] + 1))
    assert {"seq", "type", "at", "attempt", "data"} <= set(seen[0])
    assert (seen[1]["type"], seen[1]["stage"]) == ("StageDispatched", "one")
    assert seen[-1]["type"] == "JobCompleted"


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=", "limit=0", "limit=1001", "after=1e3", "after=٣"])
def test_a_malformed_cursor_is_refused(job: str, client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/jobs/{job}/events?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("Text/Event-Stream", True),
        ("text/event-stream, */*", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream;q=x", True),
        ("application/json, text/event-stream;q=0", False),
        ("application/json, text/event-stream;q=0.5", False),
        ("*/*", False),
    ],
)
def test_a_stream_is_for_who_wants_it_by_its_name_and_no_less_than_json(
    done: str, client: httpx.Client, accept: str, streams: bool
) -> None:
    answer = client.get(f"/v1/jobs/{done}/events", headers={"Accept": accept})
    assert answer.headers["content-type"] == ("text/event-stream" if streams else "application/json")


def test_a_watcher_of_a_finished_job_gets_all_of_it_and_the_end(done: str, client: httpx.Client) -> None:
    events = list(watch(client, done))
    told = history(client, done)
    assert [json.loads(e.data) for e in events] == told
    assert [(int(e.id), e.event) for e in events] == [(e["seq"], e["type"]) for e in told]


def test_the_stream_has_the_shape_that_browsers_want(done: str, client: httpx.Client) -> None:
    answer = client.get(f"/v1/jobs/{done}/events", headers=SSE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("retry: 2000\nid: 1\nevent: JobSubmitted\ndata: {")
    assert answer.text.endswith("}\n\n")


def test_a_live_watcher_sees_each_event_as_it_happens_and_pings_without_an_id(
    job: str, client: httpx.Client, stages: Stages
) -> None:
    with client.stream("GET", f"/v1/jobs/{job}/events?after=2", headers=SSE) as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["retry: 2000", ": ping"], "half a second of silence"
        token = stages.start(job, "one")
        assert next(line for line in lines if line != ": ping") == "id: 3"
        assert next(lines) == "event: StageStarted"
        data = json.loads(next(lines).removeprefix("data: "))
        assert (data["seq"], data["data"]["token"]) == (3, token)


def test_a_reconnect_that_would_have_nothing_new_is_told_to_stop(done: str, client: httpx.Client) -> None:
    last = client.get(f"/v1/jobs/{done}").json()["seq"]
    for path, headers in (
        (f"?after={last}", {}),
        (f"?after={last}", {"Last-Event-ID": ""}),
        ("", {"Last-Event-ID": str(last)}),
        ("?after=0", {"Last-Event-ID": str(last)}),
    ):
        answer = client.get(f"/v1/jobs/{done}/events{path}", headers={**SSE, **headers})
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_watcher_comes_back_to_a_retried_job_with_the_seq_of_its_end(
    done: str, client: httpx.Client, stages: Stages
) -> None:
    last = client.get(f"/v1/jobs/{done}").json()["seq"]
    client.post(f"/v1/jobs/{done}/retry", json={"from_stage": "two"})
    stages.succeed(done, "two", stages.start(done, "two"))
    events = list(watch(client, done, Last_Event_ID=str(last)))
    assert [int(e.id) for e in events] == list(range(last + 1, last + 6))
    assert [e.event for e in events] == [
        "JobRetried", "StageDispatched", "StageStarted", "StageSucceeded", "JobCompleted",
    ]  # fmt: skip
    assert int(next(watch(client, done)).id) == 1, "and who starts over sees both attempts"
    assert [int(e.id) for e in watch(client, done)] == list(range(1, last + 6))


def test_a_cursor_beyond_the_end_gets_the_job_as_it_is_and_no_id(
    job: str, client: httpx.Client, stages: Stages
) -> None:
    events = watch(client, job, after=5000)
    reset = next(events)
    assert (reset.event, reset.id, json.loads(reset.data)["job"]["seq"]) == ("reset", "", 2)
    stages.start(job, "one")
    assert next(events).id == "3", "and then what comes"


def test_a_watcher_cut_off_at_random_and_resuming_sees_exactly_all(
    api: Api, job: str, client: httpx.Client, stages: Stages
) -> None:
    dice, seen = random.Random(7), list[int]()
    stages.complete(job, 59)
    last = client.get(f"/v1/jobs/{job}").json()["seq"]
    while not seen or seen[-1] < last:
        wanted = dice.randint(1, 9)
        with httpx.Client(base_url=api.url, timeout=60) as own:
            for event in watch(own, job, Last_Event_ID=str(seen[-1] if seen else 0)):
                seen.append(int(event.id))
                wanted -= 1
                if not wanted:
                    break
    assert seen == list(range(1, last + 1))


def test_a_watcher_of_a_forgotten_job_sees_that_it_is_gone(job: str, client: httpx.Client) -> None:
    client.post(f"/v1/jobs/{job}/cancel")
    seq = client.get(f"/v1/jobs/{job}").json()["seq"]
    client.delete(f"/v1/jobs/{job}")
    assert client.get(f"/v1/jobs/{job}/events?after={seq}", headers=SSE).status_code == 410


def test_head_of_a_feed_ends_at_once(job: str, client: httpx.Client) -> None:
    answer = client.head(f"/v1/jobs/{job}/events", headers=SSE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
