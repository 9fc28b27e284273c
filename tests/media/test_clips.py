"""Clips of a whole run of `shorts`: as many, as long, as loud and of the shape that was asked for, no word split,
captions on time, faces in the picture. On a reading under a test pattern, and on a talk where there is one.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pysubs2
import pytest

from callsheet.media import cut, loudness, reframe, watch, weights
from callsheet.media.pictures import look
from callsheet.media.probe import probe
from callsheet.media.transcript import Transcript, Word
from callsheet.pipelines.shorts import pipeline
from callsheet.pipelines.shorts_params import ShortsParams
from tests.media.clips import CODEC
from tests.media.conftest import FIXTURES
from tests.media.fanned import FannedRun

MATERIAL = Path(os.environ.get("CALLSHEET_TEST_MATERIAL") or "nowhere")
TALK = MATERIAL / "derived_talk" / "talk_720p.mp4"
needs_talk = pytest.mark.skipif(not TALK.exists(), reason="CALLSHEET_TEST_MATERIAL names no folder with a talk")
WISH = {"target_clips": 2, "clip_min_seconds": 5, "clip_max_seconds": 10}


@pytest.fixture(scope="module", params=["reading", pytest.param("talk", marks=needs_talk)])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base_model: Path) -> FannedRun:
    """One run, which all tests look at."""
    weights.configure(base_model.parent, offline=True)
    root = tmp_path_factory.mktemp("clips")
    source = TALK if request.param == "talk" else reading(root / "reading.mp4")
    return FannedRun(pipeline, source, root / "run", msgspec.convert(WISH, ShortsParams)).run()


def reading(path: Path) -> Path:
    from tests.e2e.conftest import ffmpeg  # noqa: PLC0415

    sound = FIXTURES / "speech_librivox_austen" / "austen_joined.wav"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10", "-i", str(sound), *CODEC, str(path))
    return path


def heard(run: FannedRun) -> tuple[Word, ...]:
    """The words of the transcript."""
    raw = (run.root / "transcribe" / "words.json").read_bytes()
    return msgspec.json.decode(raw, type=Transcript).words


def clips(run: FannedRun) -> list[tuple[Path, dict[str, Any]]]:
    """Each clip's folder, and what is told of it."""
    assert run.failed == {}
    folders = [run.root / f"clip:{clip['number']}" for clip in run.result["clips"]]
    return [(folder, json.loads(next(folder.glob("clip-?.json")).read_text())) for folder in folders]


def test_there_are_as_many_clips_as_asked_each_as_long_as_loud_and_of_the_shape_that_was_asked_for(
    run: FannedRun,
) -> None:
    assert len(clips(run)) == 2
    for folder, facts in clips(run):
        for name in (f"{folder.name.replace(':', '-')}{kind}.mp4" for kind in ("", "-clean")):
            found = probe(folder / name)
            assert found.video is not None
            assert 5 <= found.duration <= 10.1
            assert found.duration == pytest.approx(facts["duration"], abs=0.1)
            assert (found.video.width * 16, found.video.height) == (found.video.height * 9, facts["height"])
            assert loudness.integrated(folder / name) == pytest.approx(-14, abs=1)


def test_no_cut_splits_a_word_and_no_two_clips_overlap(run: FannedRun) -> None:
    words = heard(run)
    frame = 1 / clips(run)[0][1]["fps"]
    for _, facts in clips(run):
        for edge in (facts["start"], facts["end"]):
            assert not [w for w in words if w.start + frame < edge < w.end - frame]
    order = sorted((facts["start"], facts["end"]) for _, facts in clips(run))
    assert all(one[1] <= other[0] + frame for one, other in itertools.pairwise(order))


def test_every_word_of_a_clip_is_written_within_a_fifth_of_a_second_of_its_time_in_the_transcript(
    run: FannedRun,
) -> None:
    for folder, facts in clips(run):
        file = pysubs2.SSAFile.from_string((folder / "overlay.ass").read_text())
        spoken = [w for w in heard(run) if facts["start"] <= w.start and w.end <= facts["end"]]
        assert len(spoken) > 10
        for word in spoken:
            shown = [e for e in file if e.style != "Hook" and word.punctuated_word.lower() in e.plaintext.lower()]
            start, end = word.start - facts["start"], word.end - facts["start"]
            assert any(e.start / 1000 <= start + 0.2 and e.end / 1000 >= end - 0.2 for e in shown), word


@needs_talk
@pytest.mark.parametrize("shape", ["vertical", "square"])
def test_the_face_of_a_talk_is_inside_the_clip_in_at_least_19_of_20_samples(shape: str) -> None:
    picture = look(TALK, 0)
    made = cut.on_frames([cut.Stretch(0.0, 24.7)], picture.fps)
    seen = [s for s in watch.watch(TALK, picture, made, "x") if s.faces]
    framing = reframe.frame(picture, reframe.shape_for(picture, shape), seen)
    at = reframe.positions(framing, made.frames, made.fps)
    inside = 0
    for sample in seen:
        left = at[min(len(at) - 1, round(sample.time * made.fps))] / picture.width
        right = left + framing.width / picture.width
        inside += any(left <= face.x and face.x + face.width <= right for face in sample.faces)
    assert len(seen) > 100
    assert inside / len(seen) >= 0.95
