"""Submitting, reading, cancelling, retrying, forgetting: what a client gets to see."""

from __future__ import annotations

import hashlib

import httpx

from tests.http.service import Api, Stages


def test_a_submission_is_answered_with_the_job_it_made(api: Api, client: httpx.Client) -> None:
    answer = api.submit(b"noise", name="talk.wav", params='{"level": 5}')
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert set(job) == {
        "id", "pipeline", "params", "status", "attempt", "seq", "progress", "stages", "input", "result", "artifacts",
        "error", "allowed_actions", "created_at", "updated_at", "expires_at",
    }  # fmt: skip
    assert (job["pipeline"], job["params"], job["status"], job["attempt"]) == ("sample", {"level": 5, "tags": []}, "queued", 1)
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
