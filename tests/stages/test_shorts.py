"""The stages of `shorts` are stopped in mid-work, by a cancel and by the death of their worker: nothing is left."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from callsheet.actors.keys import new_job_id
from callsheet.config.settings import Settings
from callsheet.jobs.job import InputRef
from callsheet.jobs.messages import Cancel, Retry, Submit
from callsheet.pipelines.shorts import pipeline
from tests.house.running import Running, wait_for
from tests.stages import held_shorts
from tests.stages.conftest import Service, alive, quick_settings
from tests.stages.test_stopping import group_of

STAGES = tuple(spec.name for spec in pipeline.specs)
PARAMS = {"target_clips": 1, "clip_min_seconds": 5.0, "clip_max_seconds": 10.0, "captions": "none"}


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, broker_url: str) -> Settings:
    """Workers are missed after seconds in which a busy machine has loaded a recogniser."""
    return quick_settings(tmp_path, redis_url, broker_url).model_copy(update={"worker_lost_after_seconds": 6.0})


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """Six seconds of a moving pattern and a tone."""
    path = tmp_path / "film.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=6"]
    command += ["-f", "lavfi", "-i", "sine=d=6", "-c:v", "libx264", "-preset", "ultrafast", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


def worker(service: Service) -> Running:
    return service.worker(pipelines="tests.stages.held_shorts:pipeline", stage_memory_bytes=2 << 30)


def submit(service: Service, film: bytes) -> str:
    job = new_job_id()
    upload = service.store.new_upload()
    upload.write(film)
    service.store.accept_input(job, upload)
    ref = InputRef("film.mp4", upload.bytes, upload.sha256, "video/mp4")
    params = {**PARAMS, "marks": str(service.marks)}
    outcome = service.jobs.ask(
        job, Submit(job, "me", "shorts_held", params, held_shorts.pipeline.specs, ref), timeout=15
    )
    assert outcome.ok, outcome
    return job


def begun(service: Service) -> tuple[str, int]:
    """The stage that is at work, and its process; the mark is taken away, and the stage may pass the next time."""
    stage, pid = service.marked("begun", 60.0).split()
    (service.marks / "begun").unlink()
    service.mark(f"go-{stage}")
    return stage, int(pid)


@pytest.mark.timeout(300)
def test_a_cancel_in_any_stage_leaves_nothing_and_the_job_goes_on_from_there(service: Service, film: bytes) -> None:
    worker(service)
    job = submit(service, film)
    cancelled = []
    for attempt in range(1, len(STAGES) + 1):
        stage, pid = begun(service)
        assert service.jobs.ask(job, Cancel()).ok
        wait_for(lambda pid=pid: not group_of(pid), 5.0)  # type: ignore[misc]
        ended = service.ended(job)
        assert (ended.status, ended.attempt) == ("cancelled", attempt)
        types = [e.type for e in service.events(job)]
        since = types[len(types) - types[::-1].index("CancelRequested") :]
        assert (set(since), since[-1]) == ({"StageStopped", "JobCancelled"}, "JobCancelled")
        wait_for(lambda: not service.in_work(), 5.0)
        cancelled.append(stage)
        assert service.jobs.ask(job, Retry()).ok
    done = service.ended(job, 60.0)
    assert sorted(cancelled) == sorted(STAGES)
    assert (done.status, done.result["failed_clips"], len(done.result["clips"])) == ("completed", [], 1)
    assert max(s.attempt for s in done.stages.values()) == done.attempt == len(STAGES) + 1
    wait_for(lambda: not service.in_work(), 5.0)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stages", [("clip",), pytest.param(STAGES, marks=pytest.mark.soak)], ids=["clip", "each"])
def test_a_killed_worker_costs_a_stage_no_more_than_another_try(
    service: Service, film: bytes, stages: tuple[str, ...]
) -> None:
    for stage in set(STAGES) - set(stages):
        service.mark(f"go-{stage}")
    doomed = worker(service)
    job = submit(service, film)
    for _ in stages:
        _, pid = begun(service)
        members = group_of(pid)
        doomed.signal(signal.SIGKILL)
        doomed.ends(30.0)
        wait_for(lambda members=members: not alive(*members), 5.0)  # type: ignore[misc]
        doomed = worker(service)
    done = service.ended(job, 60.0)
    assert (done.status, done.attempt, len(done.result["clips"])) == ("completed", 1, 1)
    types = [e.type for e in service.events(job)]
    assert types.count("StageStarted") == len(STAGES) + len(stages)
    wait_for(lambda: not service.in_work(), 10.0)
