"""Submitting, reading, cancelling, retrying, forgetting: what a client gets to see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import httpx

from callsheet.jobs.messages import Succeeded
from tests.http.by_hand import FILE, FORM, form
from tests.http.service import Api, Stages
from tests.waiting import eventually


def test_a_submission_is_answered_with_the_job_it_made(api: Api, client: httpx.Client) -> None:
    answer = api.submit(b"noise", name="talk.wav", params='{"level": 5}')
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert set(job) == {
        "id", "pipeline", "params", "status", "attempt", "seq", "progress", "stages", "input", "result", "artifacts",
        "error", "allowed_actions", "created_at", "updated_at", "expires_at",
    }  # fmt: skip
    assert (job["pipeline"], job["params"], job["status"], job["attempt"]) == (
        "sample",
        {"level": 5, "tags": []},
        "queued",
        1,
    )
    digest = hashlib.sha256(b"noise").hexdigest()
    assert job["input"] == {
        "filename": "talk.wav", "bytes": 5, "sha256": digest, "media_type": "audio/wav", "duration": None,
    }  # fmt: skip
    assert [(s["name"], s["status"]) for s in job["stages"]] == [("one", "dispatched"), ("two", "waiting")]
    assert (job["result"], job["error"], job["allowed_actions"]) == (None, None, ["cancel"])
    assert client.get(answer.headers["location"]).json() == job


def test_a_job_is_followed_to_its_end(job: str, client: httpx.Client, stages: Stages) -> None:
    stages.complete(job, **{"a.txt": b"hello"})
    done = client.get(f"/v1/jobs/{job}").json()
    assert (done["status"], done["progress"], done["result"]) == ("completed", 1.0, {})
    assert done["allowed_actions"] == ["retry", "forget"]
    assert [a["name"] for a in done["artifacts"]] == ["a.txt"]
    assert client.get(done["artifacts"][0]["url"]).content == b"hello"


def test_a_result_is_told_once_it_is_whole(client: httpx.Client, stages: Stages, job: str) -> None:
    assert stages.jobs.ask(job, Succeeded("one", stages.start(job, "one"), result={"words": 1})).ok
    assert client.get(f"/v1/jobs/{job}").json()["result"] is None
    stages.succeed(job, "two", stages.start(job, "two"))
    assert client.get(f"/v1/jobs/{job}").json()["result"] == {"words": 1}


def test_the_etag_is_the_seq_and_saves_the_body(job: str, client: httpx.Client) -> None:
    first = client.get(f"/v1/jobs/{job}")
    tag = first.headers["etag"]
    assert tag == f'"{first.json()["seq"]}"'
    again = client.get(f"/v1/jobs/{job}", headers={"If-None-Match": f'"999", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(f"/v1/jobs/{job}", headers={"If-None-Match": '"999"'}).status_code == 200
    listed = client.get(f"/v1/jobs/{job}", headers={"If-None-Match": f', "999",, {tag} ,'})
    assert listed.status_code == 304, "elements of a list may be empty (RFC 9110, 5.6.1.2)"


def test_who_reads_a_job_may_ask_for_that_very_seq(job: str, client: httpx.Client) -> None:
    tag = client.get(f"/v1/jobs/{job}").headers["etag"]
    for path in ("", "/artifacts", "/webhooks"):
        for wanted, status in (('"999"', 412), (f"W/{tag}", 412), (tag, 200), (f'"999", {tag}', 200), ("*", 200)):
            answer = client.get(f"/v1/jobs/{job}{path}", headers={"If-Match": wanted})
            assert answer.status_code == status, (path, wanted)
        assert client.get(f"/v1/jobs/{job}{path}", headers={"If-None-Match": tag}).status_code == 304


def test_head_says_what_get_would_without_its_body(job: str, client: httpx.Client) -> None:
    got, asked = client.get(f"/v1/jobs/{job}"), client.head(f"/v1/jobs/{job}")
    same = ("content-length", "content-type", "etag")
    assert (asked.status_code, asked.content) == (200, b"")
    assert [asked.headers[name] for name in same] == [got.headers[name] for name in same]


def test_options_names_the_methods(job: str, client: httpx.Client) -> None:
    answer = client.options(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.headers["allow"]) == (200, "DELETE, GET, HEAD")


def test_a_cancel_stops_the_job_and_a_second_one_is_refused(job: str, client: httpx.Client) -> None:
    answer = client.post(f"/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    again = client.post(f"/v1/jobs/{job}/cancel", json={})
    assert (again.status_code, again.json()["code"]) == (409, "job_ended")
    assert (again.json()["state"], again.json()["allowed_actions"]) == ("cancelled", ["retry", "forget"])


def test_a_cancel_that_a_running_stage_must_die_of_is_under_way(job: str, client: httpx.Client, stages: Stages) -> None:
    stages.start(job, "one")
    for _ in range(2):
        answer = client.post(f"/v1/jobs/{job}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")


def test_a_retry_opens_the_next_attempt_with_checked_parameters(job: str, client: httpx.Client, stages: Stages) -> None:
    stages.succeed(job, "one", stages.start(job, "one"))
    stages.fail(job, "two", stages.start(job, "two"))
    failed = client.get(f"/v1/jobs/{job}").json()
    assert (failed["status"], failed["allowed_actions"]) == ("failed", ["retry", "forget"])
    assert failed["error"] == {"code": "broken", "message": "it broke", "stage": "two", "retryable": False}
    assert failed["stages"][1]["error"]["code"] == "broken"
    answer = client.post(f"/v1/jobs/{job}/retry", json={"from_stage": "two", "params": {"level": 7}})
    now = answer.json()
    assert (answer.status_code, now["status"], now["attempt"], now["error"]) == (202, "queued", 2, None)
    assert now["params"] == {"level": 7, "tags": []}
    assert [s["status"] for s in now["stages"]] == ["succeeded", "dispatched"]


def test_a_command_with_a_stale_etag_changes_nothing(job: str, client: httpx.Client) -> None:
    stale = client.post(f"/v1/jobs/{job}/cancel", headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    seq = client.get(f"/v1/jobs/{job}").json()["seq"]
    assert client.post(f"/v1/jobs/{job}/cancel", headers={"If-Match": f'W/"{seq}"'}).status_code == 412
    assert client.post(f"/v1/jobs/{job}/cancel", headers={"If-Match": "nonsense"}).status_code == 400
    assert client.post(f"/v1/jobs/{job}/cancel", headers={"If-Match": f'"77", "{seq}"'}).status_code == 202


def test_forgetting_needs_the_end_and_leaves_a_tombstone(job: str, api: Api, client: httpx.Client) -> None:
    active = client.delete(f"/v1/jobs/{job}")
    assert (active.status_code, active.json()["code"]) == (409, "job_active")
    assert active.json()["allowed_actions"] == ["cancel"]
    client.post(f"/v1/jobs/{job}/cancel")
    gone = client.delete(f"/v1/jobs/{job}")
    assert (gone.status_code, gone.content) == (204, b"")
    for answer in (
        client.get(f"/v1/jobs/{job}"), client.delete(f"/v1/jobs/{job}"), client.get(f"/v1/jobs/{job}/events"),
        client.post(f"/v1/jobs/{job}/retry"), client.get(f"/v1/jobs/{job}/artifacts"),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")
    assert job not in [j["id"] for j in client.get("/v1/jobs?limit=200").json()["jobs"]]
    eventually(lambda: not [name for name in api.files() if job in name])


def test_an_unknown_id_and_a_malformed_one_are_the_same_to_whoever_asks(client: httpx.Client) -> None:
    client.headers["X-Request-ID"] = "one"  # else each answer has a name of its own
    answers = [
        client.get(f"/v1/jobs/{odd}")
        for odd in ("0" * 32, "F" * 32, "0" * 31, "*", "{0}", "a%20b", "%0d%0a", '"', "..", "%2e%2e%2fx", "é")
    ]
    assert {(a.status_code, a.content) for a in answers} == {(404, answers[0].content)}
    for path in ("cancel", "retry"):
        assert client.post(f"/v1/jobs/{'0' * 32}/{path}").content == answers[0].content
    for path in ("events", "artifacts", "artifacts/x", "ws"):
        assert client.get(f"/v1/jobs/{'0' * 32}/{path}").content == answers[0].content


def test_the_list_goes_page_by_page_newest_first(api: Api, client: httpx.Client) -> None:
    made = [api.submit().json()["id"] for _ in range(5)]
    seen, cursor = list[str](), ""
    while len(seen) < 5:
        page = client.get(f"/v1/jobs?limit=2{cursor}").json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = f"&cursor={page['next']}"
    assert seen[:5] == list(reversed(made))
    everything, more = list[str](), True
    cursor = ""
    while more:
        page = client.get(f"/v1/jobs?limit=200{cursor}").json()
        everything += [job["id"] for job in page["jobs"]]
        cursor, more = f"&cursor={page['next']}", page["next"] is not None
    assert len(everything) == len(set(everything))


def test_the_list_may_be_of_one_status(api: Api, client: httpx.Client) -> None:
    made = [api.submit().json()["id"] for _ in range(4)]
    for job in made[1::2]:
        client.post(f"/v1/jobs/{job}/cancel").raise_for_status()
    cancelled, more = list[str](), True
    cursor = ""
    while more and len(cancelled) < 2:
        page = client.get(f"/v1/jobs?status=cancelled&limit=1{cursor}").json()
        assert {job["status"] for job in page["jobs"]} <= {"cancelled"}
        cancelled += [job["id"] for job in page["jobs"]]
        cursor, more = f"&cursor={page['next']}", page["next"] is not None
    assert cancelled == made[3:0:-2]
    for wrong in ("done", "", ["failed", "cancelled"]):
        refused = client.get("/v1/jobs", params={"status": wrong})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
        assert "cancelled, cancelling" in refused.json()["detail"]


def test_params_that_a_pipeline_requires_may_follow_the_file(make_api: Callable[..., Api]) -> None:
    api = make_api(pipelines="tests.http.sample:demanding")
    file, given = FILE, ("params", "", '{"title": "T"}')
    for parts in ((file, given), (given, file)):
        answer = httpx.post(f"{api.url}/v1/jobs", content=form(("pipeline", "", "demanding"), *parts), headers=FORM)
        assert (answer.status_code, answer.json().get("params")) == (202, {"title": "T"})
    answer = httpx.post(f"{api.url}/v1/jobs", content=form(("pipeline", "", "demanding"), file), headers=FORM)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_params")


def test_pipelines_show_their_stages_and_the_schema_of_their_params(client: httpx.Client) -> None:
    (sample,) = client.get("/v1/pipelines").json()["pipelines"]
    assert (sample["name"], sample["stages"], sample["description"]) == ("sample", ["one", "two"], "For tests.")
    assert sample["params"]["$defs"]["SampleParams"]["properties"]["level"] == {
        "type": "integer", "minimum": 1, "maximum": 9, "default": 3,
    }  # fmt: skip


def test_the_service_says_that_it_lives_and_that_it_is_ready(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/").json()["jobs"] == "/v1/jobs"
