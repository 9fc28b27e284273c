"""Files made to hurt, through the whole service: each has a reason of its own, opens nothing, and costs no worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.canary import Canary
from tests.e2e.conftest import Service
from tests.media import hostile
from tests.media.hostile import SCRIPTS
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def canary(tmp_path: Path, austen: Path) -> Iterator[Canary]:
    with Canary(tmp_path, austen.read_bytes()) as canary:
        yield canary


def submit(service: Service, path: Path, pipeline: str = "transcribe", **more: Any) -> httpx.Response:
    with path.open("rb") as file:
        return service.api.post("/v1/jobs", data={"pipeline": pipeline, **more}, files={"file": (path.name, file)})


def refused(service: Service, path: Path, pipeline: str) -> tuple[str, str]:
    """Where and why the job failed. Nothing of it is left once it is forgotten."""
    job = service.until(submit(service, path, pipeline).json()["id"])
    assert (job["status"], job["error"]["retryable"]) == ("failed", False)
    assert str(path.parent) not in job["error"]["message"]
    assert job["artifacts"] == []
    assert service.api.delete(f"/v1/jobs/{job['id']}").status_code in (202, 204)
    eventually(lambda: not (service.data / "store" / "jobs" / job["id"]).exists())
    return job["error"]["stage"], job["error"]["code"]


@pytest.mark.parametrize("pipeline", ["transcribe", "shorts"])
def test_scripts_dressed_as_media_open_nothing_and_send_nothing(
    service: Service, tmp_path: Path, canary: Canary, pipeline: str
) -> None:
    """As they are, they are refused at once; with a byte that no text has, by the first stage."""
    for script, content in hostile.scripts(canary).items():
        path = tmp_path / "upload.mp4"
        path.write_bytes(content)
        canary.touched()
        answer = submit(service, path, pipeline)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_container"), script
        if script not in hostile.NO_TEXTS:
            path.write_bytes(content[:1000] + b"\0" + content[1000:])
            assert refused(service, path, pipeline) == ("probe", "unsupported_container"), script
        assert canary.touched() == [], script
    eventually(lambda: not service.leftovers())


@pytest.mark.parametrize("what", hostile.TOO_LARGE)
def test_what_is_too_large_to_look_into_is_refused_before_it_is_decoded(
    service: Service, tmp_path: Path, what: str
) -> None:
    make, name, code = hostile.TOO_LARGE[what]
    make(tmp_path / name)
    assert refused(service, tmp_path / name, "transcribe") == ("probe", code)
    eventually(lambda: not service.leftovers())


def test_a_client_of_the_openai_api_is_told_so_at_once(service: Service, tmp_path: Path, canary: Canary) -> None:
    path = tmp_path / "talk.mp4"
    path.write_bytes(hostile.scripts(canary)["hls to a file"])
    canary.touched()
    with path.open("rb") as file:
        answer = service.api.post(
            "/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": ("talk.mp4", file)}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_container")
    assert canary.touched() == []


NAMES = ("-i", "%s%n", "-f lavfi;$(touch x)`id`|.flac", "concat:a|b", "pipe:0", "n" * 300)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_is_no_argument_of_anything(service: Service, tmp_path: Path, name: str) -> None:
    """The stages that run ffmpeg take the file, whatever it is called."""
    path = tmp_path / "hum.wav"  # another one for each name: what is known already would not be run again
    hostile.run(path, "-f", "lavfi", "-i", f"sine={300 + NAMES.index(name)}:duration=2")
    files = {"file": (name, path.read_bytes())}
    job = service.api.post("/v1/jobs", data={"pipeline": "transcribe"}, files=files).json()["id"]
    done = service.until(job)
    assert (done["status"], done["input"]["filename"]) == ("completed", name[:255])


def test_the_worker_that_was_given_all_that_lives_and_works(service: Service, jfk: Path) -> None:
    """Damaged in many places, cut off at many places; and then a good one, which the same worker does."""
    workers = service.processes("callsheet\0worker")
    assert workers
    content = jfk.read_bytes()
    jobs = []
    for share in (0.0001, 0.001, 0.01, 0.5, 0.99):
        at = int(len(content) * share)
        for damaged in (content[:at], content[:at] + bytes(64) + content[at + 64 :], content[:at] * 2):
            answer = service.api.post("/v1/jobs", data={"pipeline": "transcribe"}, files={"file": ("a.mp3", damaged)})
            assert answer.status_code == 202
            jobs.append(answer.json()["id"])
    known = {"truncated_file", "media_unreadable", "unsupported_container", "media_too_short", "unsupported_codec"}
    for job in [service.until(job) for job in jobs]:
        assert job["status"] == "completed" or job["error"]["code"] in known, job["error"]
    assert service.until(service.submit(jfk, language="en").json()["id"])["status"] == "completed"
    assert service.processes("callsheet\0worker") == workers


def test_every_script_was_tried(canary: Canary) -> None:
    assert set(hostile.scripts(canary)) == set(SCRIPTS)
