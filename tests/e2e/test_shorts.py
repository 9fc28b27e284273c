"""Short clips through the whole service: a job, a change to one of its clips, and what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Service, ffmpeg
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
KINDS = (".mp4", "-clean.mp4", ".jpg", ".json")
LOOKS = {"waveform.json", "waveform.png", "storyboard.jpg", "storyboard.vtt"}


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory, austen: Path) -> Path:
    """Twenty-five seconds of a reading under a moving pattern."""
    path = tmp_path_factory.mktemp("reading") / "reading.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10", "-i", str(austen)]
    ffmpeg(*picture, "-t", "24.7", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", str(path))
    return path


def submit(service: Service, video: Path, **params: Any) -> httpx.Response:
    with video.open("rb") as file:
        fields = {"pipeline": "shorts", "params": json.dumps(params)}
        return service.api.post("/v1/jobs", data=fields, files={"file": (video.name, file)})


def digests(job: dict[str, Any]) -> dict[str, str]:
    return {artifact["name"]: artifact["sha256"] for artifact in job["artifacts"]}


def test_a_video_becomes_clips_and_one_that_is_edited_is_rendered_alone(service: Service, reading: Path) -> None:
    id_ = submit(service, reading, target_clips=3, clip_min_seconds=5, clip_max_seconds=10).json()["id"]
    job = service.until(id_)
    assert job["status"] == "completed", job["error"]
    clips = job["result"]["clips"]
    assert [clip["number"] for clip in clips] == [0, 1, 2]
    assert (job["result"]["failed_clips"], job["result"]["warnings"]) == ([], [])
    assert set(digests(job)) == {f"clip-{n}{kind}" for n in range(3) for kind in KINDS} | {"shorts.json"} | LOOKS
    assert all(5 <= clip["duration"] <= 10.1 and abs(clip["loudness"] + 14) <= 1 and clip["why"] for clip in clips)
    assert all(one["end"] <= other["start"] + 0.1 for one, other in itertools.pairwise(clips))
    assert json.loads(service.artifact(id_, "clip-1.json"))["words"]

    edit = {"start": 1.0, "end": 3.0, "text": "Corrected by hand.", "captions": "boxed", "output_format": "square"}
    answer = service.api.post(f"/v1/jobs/{id_}/retry", json={"from_stage": "clip:1", "params": {"edits": {"1": edit}}})
    assert answer.status_code == 202, answer.text
    again = service.until(id_)
    assert again["status"] == "completed", again["error"]
    edited = again["result"]["clips"][1]
    assert (edited["duration"], edited["width"], edited["text"]) == (2.0, 360, "Corrected by hand.")
    before, after = digests(job), digests(again)
    kept = {name for name in before if not name.startswith("clip-1")} - {"shorts.json"}
    assert {name for name in before if before[name] == after[name]} == kept
    events = service.events(id_)
    retried = next(event["seq"] for event in events if event["type"] == "JobRetried")
    ran = {event["stage"] for event in events if event["type"] == "StageDispatched" and event["seq"] > retried}
    assert ran == {"clip:1", "collect"}
    eventually(lambda: not service.leftovers())


def test_a_video_without_sound_becomes_clips_by_what_moves(service: Service, reading: Path, tmp_path: Path) -> None:
    mute = tmp_path / "mute.mp4"
    ffmpeg("-i", str(reading), "-an", "-c", "copy", str(mute))
    id_ = submit(service, mute, target_clips=2, clip_min_seconds=5, clip_max_seconds=10).json()["id"]
    job = service.until(id_)
    assert job["status"] == "completed", job["error"]
    assert [(clip["loudness"], clip["text"]) for clip in job["result"]["clips"]] == [(None, "")] * 2
    assert {warning["code"] for warning in job["result"]["warnings"]} == {"no_speech", "no_captions"}
    made = {f"clip-{n}{kind}" for n in range(2) for kind in KINDS} & set(digests(job))
    assert {"clip-0.mp4", "clip-1.mp4", "clip-0.jpg", "clip-1.jpg"} <= made


@pytest.mark.parametrize(
    "params",
    [
        {"clip_min_seconds": 30, "clip_max_seconds": 20},
        {"target_clips": 99},
        {"edits": {"0": {"segments": [{"start": 1.0, "end": 1.2}]}}},
    ],
)
def test_params_that_contradict_the_limits_are_a_typed_error_at_submission(
    service: Service, reading: Path, params: dict[str, Any]
) -> None:
    answer = submit(service, reading, **params)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_params")


def test_the_pipeline_describes_every_param(service: Service) -> None:
    listed = {one["name"]: one for one in service.api.get("/v1/pipelines").json()["pipelines"]}
    shorts = listed["shorts"]
    steps = ["probe", "audio", "speech", "transcribe", "shots", "highlights", "clip", "collect"]
    assert shorts["stages"] == [*steps, "waveform", "storyboard"]
    assert "clip_max_seconds" in json.dumps(shorts["params"])
