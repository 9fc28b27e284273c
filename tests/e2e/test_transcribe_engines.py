"""Recognition by Deepgram, and a language model, in the whole service: paid once, cancelled at once, told in full."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Service, running_service
from tests.media.engines import FakeDeepgram, FakeOpenAI
from tests.providers.fakes import KEY, Reply, serving
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def deepgram() -> Iterator[FakeDeepgram]:
    server = FakeDeepgram()
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def model() -> Iterator[FakeOpenAI]:
    server = FakeOpenAI()
    server.chat = [{"summary": "A greeting.", "chapters": [{"title": "Hello", "start": 0.0}]}]
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def paying(
    redis_binary: Path, tmp_path_factory: pytest.TempPathFactory, deepgram: FakeDeepgram, model: FakeOpenAI
) -> Iterator[Service]:
    """The service with Deepgram and a language model configured."""
    env = {
        "CALLSHEET_PIPELINES": "callsheet.pipelines.transcribe:pipeline,callsheet.pipelines.shorts:pipeline",
        "CALLSHEET_DEEPGRAM_KEY": KEY,
        "CALLSHEET_DEEPGRAM_URL": deepgram.url,
        "CALLSHEET_LLM_URL": f"{model.url}/v1",
        "CALLSHEET_LLM_KEY": KEY,
        "CALLSHEET_LLM_MODEL": "m",
    }
    with running_service(tmp_path_factory.mktemp("paying"), **env) as service:
        yield service


def test_a_job_is_recognised_by_deepgram_described_by_a_model_and_no_retry_pays_again(
    paying: Service, deepgram: FakeDeepgram, model: FakeOpenAI, jfk: Path
) -> None:
    answer = paying.submit(jfk, engine="deepgram", diarize=True)
    first = paying.until(answer.json()["id"])
    assert (first["status"], first["error"]) == ("completed", None)
    assert first["result"]["cost"] == pytest.approx(11 / 60 * 0.006, rel=0.01)
    assert b"Speaker 2: Hello, Ann." in paying.artifact(first["id"], "transcript.txt")
    assert paying.api.post(f"/v1/jobs/{first['id']}/retry", json={"from_stage": "transcribe"}).status_code == 202
    second = paying.until(first["id"])
    assert (second["status"], second["attempt"], deepgram.paid) == ("completed", 2, 1)
    described = paying.until(paying.submit(jfk, engine="deepgram", diarize=True, summarize=True).json()["id"])
    assert described["result"]["summary"] == "Two people greet each other."
    assert [chapter["title"] for chapter in described["result"]["chapters"]] == ["Hello"]
    assert (deepgram.paid, model.paid) == (2, 1)


def test_a_cancel_ends_a_job_that_waits_for_its_engine(paying: Service, deepgram: FakeDeepgram, jfk: Path) -> None:
    calls = len(deepgram.calls)
    deepgram.plans["listen"] = [Reply(hang=60.0)]
    id_ = paying.submit(jfk, engine="deepgram", language="fr").json()["id"]
    deepgram.until("listen", calls + 1, 60)
    assert paying.api.post(f"/v1/jobs/{id_}/cancel").status_code == 202
    assert paying.until(id_, seconds=60)["status"] == "cancelled"
    eventually(lambda: not paying.leftovers())


@pytest.mark.parametrize(
    ("reply", "code"),
    [(Reply(402, {"err_code": "ASR_PAYMENT_REQUIRED"}), "provider_denied"), (Reply(200, b"<html>"), "payment_unknown")],
)
def test_an_engine_that_fails_is_a_failed_job_with_its_reason_and_nothing_left(
    paying: Service, deepgram: FakeDeepgram, jfk: Path, reply: Reply, code: str
) -> None:
    deepgram.plans["listen"] = [reply]
    job = paying.until(paying.submit(jfk, engine="deepgram", language="de").json()["id"])
    assert (job["status"], job["error"]["code"], job["error"]["stage"]) == ("failed", code, "transcribe")
    assert {s["name"]: s["status"] for s in job["stages"]}["artifacts"] != "succeeded"
    eventually(lambda: not paying.leftovers())


@pytest.mark.parametrize("pipeline", ["transcribe", "shorts"])
def test_a_language_model_that_fails_costs_its_part_and_never_the_job(
    paying: Service, model: FakeOpenAI, video: Path, pipeline: str
) -> None:
    model.plans["chat"] = [Reply(401, {"error": {"message": "bad key"}})]
    asked = {
        "transcribe": {"summarize": True},
        "shorts": {"chooser": "llm", "target_clips": 1, "clip_min_seconds": 5, "clip_max_seconds": 10},
    }
    fields = {"pipeline": pipeline, "params": json.dumps(asked[pipeline])}
    with video.open("rb") as file:
        id_ = paying.api.post("/v1/jobs", data=fields, files={"file": ("talk.mp4", file)}).json()["id"]
    job = paying.until(id_)
    assert (job["status"], model.plans["chat"]) == ("completed", [])
    assert "llm_failed" in {warning["code"] for warning in job["result"]["warnings"]}
    eventually(lambda: not paying.leftovers())


def test_an_engine_that_is_not_configured_is_named_by_the_first_stage(paying: Service, jfk: Path) -> None:
    job = paying.until(paying.submit(jfk, engine="openai").json()["id"])
    assert (job["status"], job["error"]["code"], job["error"]["stage"]) == (
        "failed",
        "provider_not_configured",
        "probe",
    )
    assert "CALLSHEET_OPENAI_KEY" in job["error"]["message"]
