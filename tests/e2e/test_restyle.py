"""The pipelines `restyle` and `preview` in a real service, with fake providers that count what they charge for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from callsheet.actors.keys import new_job_id
from callsheet.jobs.job import InputRef, Job
from callsheet.jobs.messages import Cancel, Retry, Submit
from callsheet.pipelines import preview, restyle
from tests.house.running import Running
from tests.media.clips import CODEC, SOUND, scene, sound, times
from tests.providers.fakes import KEY, FakeFal, FakeGemini, Reply, serving
from tests.servers import RedisServer
from tests.stages.conftest import ROOT, Service, quick_settings
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
PIPELINES = {"restyle": restyle.pipeline, "preview": preview.pipeline}
RELIGHT = {"mode": "relight", "lighting_prompt": "dusk"}
REMOTE_MATTE = {"mode": "background", "matte": "remote", "background_color": "#00ff00"}
SLOW: dict[str, Any] = {"look": "painting", "detail": 1024}


class Studio(Service):
    """A service that restyles, and its providers."""

    def __init__(self, folder: Path, journal: RedisServer, broker: RedisServer) -> None:
        quick = quick_settings(folder, journal.url, broker.url)
        # A child that starts while the machine is busy says nothing for longer than the two seconds of other tests.
        patient = quick.model_copy(update={"worker_lost_after_seconds": 8.0, "lease_seconds": 20.0})
        super().__init__(patient, folder / "marks")
        self.fal, self.gemini = FakeFal(), FakeGemini()
        self.folder = folder

    def work(self, *, keys: bool = True) -> Running:
        """A worker of both queues, with the addresses of the fakes."""
        urls = {"gemini_url": self.gemini.url, "fal_queue_url": self.fal.url, "fal_rest_url": self.fal.url}
        secrets = {"gemini_key": KEY, "fal_key": KEY} if keys else {}
        names = ",".join(f"callsheet.pipelines.{name}:pipeline" for name in PIPELINES)
        quick = {"provider_poll_seconds": 0.05, "stage_memory_bytes": 4 << 30, "pipelines": names}
        return self.worker("cpu", "io", **urls, **secrets, **quick)

    def send(self, path: Path, pipeline: str = "restyle", **params: Any) -> str:
        """Submit a file."""
        job, upload = new_job_id(), self.store.new_upload()
        upload.write(path.read_bytes())
        self.store.accept_input(job, upload)
        ref = InputRef(path.name, upload.bytes, upload.sha256, "video/mp4")
        outcome = self.jobs.ask(job, Submit(job, "me", pipeline, params, PIPELINES[pipeline].specs, ref), timeout=30)
        assert outcome.ok, outcome
        return job

    def made(self, job: Job, name: str) -> Path:
        """An artifact."""
        (ref,) = [ref for ref in job.artifacts if ref.name == name]
        return self.store.path(job.id, ref.folder, ref.name)

    def runs(self, job: str, stage: str) -> None:
        """Wait until a stage runs."""
        eventually(lambda: (found := self.jobs.job(job)) and found.stages[stage].status == "running")

    def nothing_is_left(self) -> None:
        """No work, no upload, no process but the workers' idle children."""
        eventually(lambda: not self.in_work())
        eventually(lambda: list((self.settings.data / "store" / "incoming").iterdir()) == [])
        eventually(lambda: not [p for worker in self.workers for p in worker.family() if "ffmpeg" in _name(p)])

    def reset(self) -> None:
        for server in (self.fal, self.gemini):
            server.plans.clear()
            server.calls.clear()
            server.paid = 0
        self.fal.polls, self.fal.error, self.fal.answer = 1, "", "video"
        self.fal.cancelled.clear()


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="module")
def _studio(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    with (
        pytest.MonkeyPatch.context() as patch,
        RedisServer(folder / "journal") as journal,
        RedisServer(folder / "broker", "broker") as broker,
    ):
        patch.setenv("PYTHONPATH", str(ROOT))
        made = Studio(folder, journal, broker)
        with serving(made.fal, made.gemini):
            made.gemini.picture = cv2.imencode(".png", np.full((120, 160, 3), 200, np.uint8))[1].tobytes()
            yield made
            made.close()


@pytest.fixture
def studio(_studio: Studio) -> Studio:
    """The studio with one living worker."""
    _studio.reset()
    _studio.workers = [worker for worker in _studio.workers if worker.process.poll() is None]
    if not _studio.workers:
        _studio.work()
    return _studio


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, _studio: Studio) -> Path:
    """Two seconds of moving pictures with sound; the fakes give back what it looks like in another light."""
    folder = tmp_path_factory.mktemp("clip")
    _ffmpeg(*scene(), *SOUND, *CODEC, str(folder / "clip.mp4"))
    _ffmpeg(*scene(rate=8), *CODEC, str(folder / "other.mp4"))
    _studio.fal.result = (folder / "other.mp4").read_bytes()
    return folder / "clip.mp4"


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What takes long to paint."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    _ffmpeg(*scene("640x480", 25, 20), *SOUND, *CODEC[:-1], str(path))
    return path


def _ffmpeg(*arguments: str) -> None:
    from tests.e2e.conftest import ffmpeg  # noqa: PLC0415

    ffmpeg(*arguments)


def test_a_look_keeps_sound_and_frames_and_comes_with_pictures(studio: Studio, clip: Path) -> None:
    job = studio.ended(studio.send(clip, look="noir", vignette=0.5), 60)
    assert (job.status, job.error) == ("completed", None), job.error
    names = ["restyled.mp4", "storyboard.jpg", "storyboard.vtt", "waveform.json", "waveform.png"]
    assert sorted(ref.name for ref in job.artifacts) == names
    made = studio.made(job, "restyled.mp4")
    assert sound(made) == sound(clip)
    assert times(made) == pytest.approx(times(clip), abs=1e-3)
    assert studio.fal.calls + studio.gemini.calls == []
    studio.nothing_is_left()


def test_a_video_is_relit_with_its_sound_and_a_retry_of_any_stage_pays_nothing(studio: Studio, clip: Path) -> None:
    id_ = studio.send(clip, **RELIGHT)
    job = studio.ended(id_, 60)
    assert (job.status, job.error) == ("completed", None), job.error
    assert sound(studio.made(job, "restyled.mp4")) == sound(clip)
    for stage in ("render", "video", "probe"):
        assert studio.jobs.ask(id_, Retry(from_stage=stage), timeout=30).ok
        assert studio.ended(id_, 60).status == "completed"
    assert (studio.gemini.paid, studio.fal.paid) == (1, 1)
    assert set(studio.fal.orders["request-1"]["arguments"]) == {"prompt", "num_frames", "video_url", "image_url"}


@pytest.mark.parametrize("matte", ["people", "remote"])
def test_a_background_is_replaced_behind_the_sources_frames_and_sound(studio: Studio, clip: Path, matte: str) -> None:
    studio.fal.answer = "mask_video"
    job = studio.ended(studio.send(clip, **{**REMOTE_MATTE, "matte": matte}), 60)
    assert (job.status, job.error) == ("completed", None), job.error
    made = studio.made(job, "restyled.mp4")
    assert sound(made) == sound(clip)
    assert times(made) == pytest.approx(times(clip), abs=1e-3)
    assert studio.fal.paid == (matte == "remote")


@pytest.mark.parametrize(("stage", "asked"), [("render", RELIGHT), ("video", RELIGHT), ("render", REMOTE_MATTE)])
def test_a_retry_that_asks_for_what_was_not_bought_says_where_to_begin(
    studio: Studio, clip: Path, stage: str, asked: dict[str, Any]
) -> None:
    id_ = studio.send(clip, look="noir")
    assert studio.ended(id_, 60).status == "completed"
    assert studio.jobs.ask(id_, Retry(from_stage=stage, params=asked), timeout=30).ok
    job = studio.ended(id_, 60)
    assert job.error
    assert (job.status, job.error.code, job.error.stage) == ("failed", "not_bought", stage)
    assert studio.fal.calls + studio.gemini.calls == []


@pytest.mark.parametrize(("stage", "asked"), [("reference", RELIGHT), ("video", REMOTE_MATTE)])
def test_a_retry_cannot_have_a_paid_model_work_on_a_video_that_is_too_long(
    studio: Studio, tmp_path: Path, stage: str, asked: dict[str, Any]
) -> None:
    _ffmpeg(*scene("32x32", 1, 31), *CODEC, str(tmp_path / "long.mp4"))
    id_ = studio.send(tmp_path / "long.mp4", look="noir")
    assert studio.ended(id_, 60).status == "completed"
    assert studio.jobs.ask(id_, Retry(from_stage=stage, params=asked), timeout=30).ok
    job = studio.ended(id_, 60)
    assert job.error
    assert (job.error.code, job.error.stage) == ("media_too_long", stage)
    assert studio.fal.calls + studio.gemini.calls == []


@pytest.mark.parametrize(
    ("params", "code", "stage"),
    [
        ({"mode": "relight", "lighting_prompt": " "}, "bad_params", "probe"),
        ({"look": "lut", "lut": "LUT_3D_SIZE 1"}, "bad_lut", "probe"),
        ({"look": "lut"}, "bad_params", "probe"),
        ({"mode": "background", "background_image": "aGVsbG8="}, "bad_background_image", "probe"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_first_stage(
    studio: Studio, clip: Path, params: dict[str, Any], code: str, stage: str
) -> None:
    job = studio.ended(studio.send(clip, **params), 60)
    assert job.error
    assert (job.status, job.error.code, job.error.stage) == ("failed", code, stage)


def test_a_video_too_long_for_a_paid_model_is_refused_before_anything_is_asked(studio: Studio, tmp_path: Path) -> None:
    _ffmpeg(*scene("32x32", 1, 31), *CODEC, str(tmp_path / "long.mp4"))
    job = studio.ended(studio.send(tmp_path / "long.mp4", **RELIGHT), 60)
    assert job.error
    assert (job.error.code, job.error.stage, studio.gemini.calls) == ("media_too_long", "probe", [])


@pytest.mark.parametrize(
    ("who", "what", "replies", "code"),
    [
        ("gemini", "generate", [Reply(200, {"promptFeedback": {"blockReason": "SAFETY"}})], "provider_failed"),
        ("fal", "submit", [Reply(402, {"detail": "no credit"})], "provider_denied"),
        ("fal", "submit", [Reply(500)], "payment_unknown"),
        ("fal", "status", [Reply(200, {"status": "COMPLETED", "error": "runner died"})], "provider_failed"),
        ("fal", "download", [Reply(200, b"no video")], "provider_bad_answer"),
    ],
)
def test_a_failing_provider_is_a_failed_job_with_its_reason_and_nothing_left(
    *, studio: Studio, clip: Path, who: str, what: str, replies: list[Reply], code: str
) -> None:
    getattr(studio, who).plans[what] = replies
    id_ = studio.send(clip, **RELIGHT, pay_again=0)
    job = studio.ended(id_, 60)
    assert job.error
    assert job.status == "failed"
    assert job.error.code in code.split("|")
    studio.nothing_is_left()
    assert studio.fal.paid <= 1


@pytest.mark.parametrize("stage", ["reference", "video", "render"])
def test_a_cancel_in_mid_stage_ends_the_work_here_and_there(
    studio: Studio, clip: Path, long_clip: Path, stage: str
) -> None:
    studio.gemini.plans["generate"] = [Reply(hang=30.0)] if stage == "reference" else []
    studio.fal.polls = 10_000
    id_ = studio.send(long_clip, **SLOW) if stage == "render" else studio.send(clip, **RELIGHT)
    if stage == "reference":
        studio.gemini.until("generate")
    elif stage == "video":
        studio.fal.until("status")
    studio.runs(id_, stage)
    assert studio.jobs.ask(id_, Cancel(), timeout=30).ok
    assert studio.ended(id_, 60).status == "cancelled"
    studio.nothing_is_left()
    if stage == "video":
        studio.fal.until("cancel")
        eventually(lambda: studio.fal.cancelled)
    assert [e.type for e in studio.events(id_)][-1] == "JobCancelled"


@pytest.mark.parametrize("stage", ["reference", "video"])
def test_a_killed_workers_stage_is_run_again_and_nothing_is_paid_twice(studio: Studio, clip: Path, stage: str) -> None:
    worker = studio.workers[-1]
    studio.gemini.plans["generate"] = [Reply(hang=30.0)] if stage == "reference" else []
    studio.fal.polls = 10_000
    id_ = studio.send(clip, **RELIGHT)
    if stage == "reference":
        studio.gemini.until("generate")
    else:
        studio.fal.until("status")
    studio.runs(id_, stage)
    worker.signal(signal.SIGKILL)
    worker.ends()
    studio.work()
    if stage == "video":
        studio.fal.orders["request-1"]["polls"] = 1
    job = studio.ended(id_, 60)
    expected = {"reference": "payment_unknown", "video": None}
    assert (job.error.code if job.error else None) == expected[stage]
    assert job.status == {"reference": "failed", "video": "completed"}[stage]
    assert studio.gemini.calls.count("generate") == 1
    assert studio.fal.paid == (stage == "video")
    studio.nothing_is_left()


def test_a_picture_that_cannot_be_read_is_the_providers_fault_and_nothing_else_is_ordered(
    studio: Studio, clip: Path
) -> None:
    usual, studio.gemini.picture = studio.gemini.picture, b"\x89PNG\r\n\x1a\n and then nothing"
    try:
        job = studio.ended(studio.send(clip, **RELIGHT), 60)
    finally:
        studio.gemini.picture = usual
    assert job.error
    assert (job.error.code, job.error.stage, studio.fal.calls) == ("provider_bad_answer", "reference", [])


def test_an_order_of_unknown_fate_is_repeated_when_the_client_says_so(studio: Studio, clip: Path) -> None:
    studio.fal.plans["submit"] = [Reply(500)]
    id_ = studio.send(clip, **RELIGHT)
    assert studio.ended(id_, 60).status == "failed"
    assert studio.jobs.ask(id_, Retry(params={"pay_again": 1}), timeout=30).ok
    assert studio.ended(id_, 60).status == "completed"
    assert (studio.gemini.paid, studio.fal.calls.count("submit")) == (1, 2)


@pytest.mark.parametrize("kind", ["video", "sound", "silent", "frame", "blip"])
def test_a_preview_is_made_of_every_input(studio: Studio, clip: Path, tmp_path: Path, kind: str) -> None:
    path = clip
    if kind == "sound":
        _ffmpeg(*SOUND, str(path := tmp_path / "a.ogg"))
    elif kind == "silent":
        _ffmpeg(*scene(), *CODEC, str(path := tmp_path / "a.mp4"))
    elif kind == "frame":
        _ffmpeg(*scene("8x8", 25), "-frames:v", "1", "-c:v", "mpeg4", str(path := tmp_path / "a.mp4"))
    elif kind == "blip":
        _ffmpeg(*SOUND, "-t", "0.01", str(path := tmp_path / "a.wav"))
    job = studio.ended(studio.send(path, "preview"), 60)
    assert (job.status, {s.status for s in job.stages.values()}) == ("completed", {"succeeded"})
    made = {ref.name.partition(".")[0] for ref in job.artifacts}
    seen = {"storyboard"} if kind in ("video", "silent", "frame") else set()
    assert made == seen | ({"waveform"} if kind in ("video", "sound", "blip") else set())


def test_without_a_provider_the_job_fails_at_once_and_says_what_to_configure(studio: Studio, clip: Path) -> None:
    for worker in studio.workers:
        worker.signal(signal.SIGTERM)
        worker.ends()
    worker = studio.work(keys=False)
    job = studio.ended(studio.send(clip, **RELIGHT), 60)
    worker.signal(signal.SIGTERM)
    worker.ends()
    assert job.error
    assert (job.error.code, job.error.stage) == ("provider_not_configured", "probe")
    assert "CALLSHEET_GEMINI_KEY" in job.error.message


def test_only_the_children_that_buy_are_given_keys(studio: Studio) -> None:
    for worker in studio.workers:
        for process in worker.family():
            with contextlib.suppress(psutil.NoSuchProcess):  # which ends while we look
                if "child_main" in " ".join(process.cmdline()):
                    assert KEY not in str(process.environ())
                    assert KEY not in " ".join(process.cmdline())
