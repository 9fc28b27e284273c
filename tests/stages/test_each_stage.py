"""Every stage of every pipeline is stopped in mid-work, by a cancel and by the death of its worker: nothing is left."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from callsheet.actors.keys import new_job_id
from callsheet.jobs.job import InputRef, Job
from callsheet.jobs.messages import Cancel, Retry, Submit
from tests.house.running import Running
from tests.stages import held
from tests.stages.conftest import Service, alive, group_of, service_of_a_file
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
PARAMS: dict[str, dict[str, Any]] = {
    "held_shorts": {
        "target_clips": 1,
        "clip_min_seconds": 5.0,
        "clip_max_seconds": 10.0,
        "captions": "none",
        "loudness": None,
    }
}
KINDS = (".mp4", ".jpg", ".json")  # without captions there is one version
ONE_CLIP = {"clip": "clip:0"}  # as it is called when it runs
EACH = pytest.mark.parametrize("pipeline", held.PIPELINES)


@pytest.fixture(scope="module")
def service(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A host without workers, which misses one after seconds in which a busy machine has loaded a recogniser."""
    with service_of_a_file(tmp_path_factory.mktemp("each"), worker_lost_after_seconds=6.0) as made:
        yield made


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Six seconds of a moving pattern and a tone: one clip's worth."""
    return filmed(tmp_path_factory.mktemp("film") / "film.mp4", 6)


def filmed(path: Path, seconds: int) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=10"]
    command += ["-f", "lavfi", "-i", "sine", "-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


def work(service: Service, slots: int) -> Running:
    """A worker that runs so many stages at once."""
    return service.worker(
        "cpu", "io", pipelines=held.REFERENCES, stage_memory_bytes=2 << 30, cpu_concurrency=slots, io_concurrency=slots
    )


class Held:
    """A job whose stages are held, but for those that are let go."""

    def __init__(
        self, service: Service, film: bytes, marks: Path, pipeline: str, free: frozenset[str], **params: Any
    ) -> None:
        self.service, self.marks = service, marks
        marks.mkdir()
        for stage in free:
            self.let_go(stage)
        self.id = new_job_id()
        upload = service.store.new_upload()
        upload.write(film)
        service.store.accept_input(self.id, upload)
        ref = InputRef("film.mp4", upload.bytes, upload.sha256, "video/mp4")
        params = {**PARAMS.get(pipeline, {}), **params, "marks": str(marks)}
        submission = Submit(self.id, "me", pipeline, params, held.PIPELINES[pipeline].specs, ref)
        assert service.jobs.ask(self.id, submission).ok

    def let_go(self, stage: str) -> None:
        (self.marks / f"go-{stage}").touch()

    def begun(self) -> tuple[str, int]:
        """A stage that is at work, and its process. It is held no more the next time."""
        mark = eventually(lambda: next(self.marks.glob("begun-*"), None))
        stage, pid = mark.name.removeprefix("begun-"), int(mark.read_text())
        mark.unlink()
        self.let_go(stage)
        return stage, pid

    def types(self) -> list[str]:
        return [event.type for event in self.service.events(self.id)]

    def ended(self) -> Job:
        return self.service.ended(self.id)


def nothing_is_left(service: Service) -> None:
    eventually(lambda: not service.in_work())
    assert list((service.settings.data / "store" / "incoming").iterdir()) == []


@EACH
def test_a_cancel_in_any_stage_leaves_nothing_and_the_job_goes_on_from_there(
    service: Service, film: bytes, tmp_path: Path, pipeline: str
) -> None:
    worker = work(service, 1)
    stages = {ONE_CLIP.get(spec.name, spec.name) for spec in held.PIPELINES[pipeline].specs}
    job = Held(service, film, tmp_path / "marks", pipeline, frozenset())
    cancelled = []
    for attempt in range(1, len(stages) + 1):
        stage, pid = job.begun()
        assert service.jobs.ask(job.id, Cancel()).ok
        eventually(lambda pid=pid: not group_of(pid))  # type: ignore[misc]
        ended = job.ended()
        assert (ended.status, ended.attempt) == ("cancelled", attempt)
        types = job.types()
        since = types[len(types) - types[::-1].index("CancelRequested") :]
        assert (set(since), since[-1]) == ({"StageStopped", "JobCancelled"}, "JobCancelled")
        nothing_is_left(service)
        cancelled.append(stage)
        assert service.jobs.ask(job.id, Retry()).ok
    done = job.ended()
    assert sorted(cancelled) == sorted(stages)
    assert (done.status, done.attempt, done.result.get("failed_clips", [])) == ("completed", len(stages) + 1, [])
    assert {stage.status for stage in done.stages.values()} == {"succeeded"}
    nothing_is_left(service)
    worker.signal(signal.SIGTERM)
    assert worker.ends(60.0) == 0


@pytest.mark.parametrize("names", [("held_shorts",), ("held_transcribe", "held_restyle", "held_preview")])
def test_a_worker_killed_in_any_stage_costs_it_no_more_than_another_try(
    service: Service, film: bytes, tmp_path: Path, names: tuple[str, ...]
) -> None:
    stages = {name: {ONE_CLIP.get(spec.name, spec.name) for spec in held.PIPELINES[name].specs} for name in names}
    slots = sum(map(len, stages.values()))
    doomed = work(service, slots)
    jobs = {  # one job for each stage, held in that one alone: all are killed at once
        (name, stage): Held(service, film, tmp_path / f"{name}-{stage}", name, frozenset(stages[name] - {stage}))
        for name in stages
        for stage in stages[name]
    }
    members = [pid for job in jobs.values() for pid in group_of(job.begun()[1])]
    assert len(members) >= slots
    doomed.signal(signal.SIGKILL)
    doomed.ends(30.0)
    eventually(lambda: not alive(*members))
    after = work(service, 4)
    for (_, stage), job in jobs.items():
        done = job.ended()
        assert (done.status, done.attempt, {s.status for s in done.stages.values()}) == ("completed", 1, {"succeeded"})
        assert [event.stage for event in service.events(job.id, "StageStarted")].count(stage) == 2
    nothing_is_left(service)
    after.signal(signal.SIGTERM)
    assert after.ends(60.0) == 0


def test_a_job_that_ended_in_mid_fan_out_and_is_retried_from_one_clip_renders_no_other_again(
    service: Service, tmp_path: Path
) -> None:
    worker = work(service, 3)  # a place for each clip: which of them is offered first is anybody's guess
    steps = {spec.name for spec in held.PIPELINES["held_shorts"].specs}
    free = frozenset(steps | {"clip:0"})
    job = Held(service, filmed(tmp_path / "film.mp4", 18), tmp_path / "marks", "held_shorts", free, target_clips=3)
    assert {job.begun()[0], job.begun()[0]} == {"clip:1", "clip:2"}
    eventually(lambda: "clip:0" in [event.stage for event in service.events(job.id, "StageSucceeded")])
    assert service.jobs.ask(job.id, Cancel()).ok
    first = {ref.name: ref.sha256 for ref in job.ended().artifacts}
    assert {name for name in first if name.startswith("clip")} == {f"clip-0{kind}" for kind in KINDS}
    for again in ({"clip:1", "clip:2", "collect"}, {"clip:1", "collect"}):  # clip 2 was not rendered yet at the first
        assert service.jobs.ask(job.id, Retry(from_stage="clip:1")).ok
        done = job.ended()
        assert (done.status, done.result["failed_clips"]) == ("completed", [])
        events = service.events(job.id)
        since = max(event.seq for event in events if event.type == "JobRetried")
        ran = {event.stage for event in events if event.type == "StageStarted" and event.seq > since}
        assert ran - {"waveform", "storyboard"} == again
        assert first.items() <= {ref.name: ref.sha256 for ref in done.artifacts}.items()
    worker.signal(signal.SIGTERM)
    assert worker.ends(60.0) == 0
