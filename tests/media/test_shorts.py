"""The pipeline `shorts` by its stages: what comes out, what is refused, and what a failure costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callsheet.media import captions, render
from callsheet.media.errors import MediaError
from callsheet.media.material import Choice
from callsheet.media.probe import probe
from callsheet.pipelines.common import warning
from callsheet.pipelines.declare import StageError
from callsheet.pipelines.shorts import pipeline
from callsheet.pipelines.shorts_params import ShortsParams
from tests.media.conftest import Make
from tests.media.fanned import FannedRun
from tests.media.spoken import talk, transcript, word


def params(**given: Any) -> ShortsParams:
    return msgspec.convert(given, ShortsParams)


@pytest.fixture
def film(make: Make, jfk: Path) -> Path:
    """Eleven seconds of a moving pattern, small, with speech."""
    picture = ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10"]
    return make("film.mp4", *picture, "-i", jfk, "-t", "11", "-c:v", "libx264", "-preset", "ultrafast")


@pytest.fixture
def clip(film: Path, tmp_path: Path) -> FannedRun:
    """A run that has come to its clips: seconds 1..4, in which a sentence made up for the test is said."""
    run = FannedRun(pipeline, film, tmp_path / "run", params(clip_min_seconds=5))
    run.stage("probe")
    run.stage("audio")
    run.data |= {"transcribe": {}, "highlights": {"clips": 2}, "speech": {"warnings": []}}
    (run.root / "transcribe").mkdir()
    words = transcript(talk("Ask not what your contry can do", 1.2), 11.0)
    (run.root / "transcribe" / "words.json").write_bytes(msgspec.json.encode(words))
    return run


def item(number: int = 0, start: float = 1.0, end: float = 4.0) -> dict[str, Any]:
    choice = Choice(start, end, 0.5, "It is short.", "A title", "A hook", {"x": "text"}, {"rate": 1.0})
    return {"number": number, "choice": msgspec.to_builtins(choice)}


def codes(result: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in result["warnings"]]


def test_a_clip_is_all_its_files_and_metadata_that_are_true(clip: FannedRun) -> None:
    output = clip.stage("clip:0", item())
    names = ["clip-0.mp4", "clip-0-clean.mp4", "clip-0.jpg", "clip-0.json"]
    assert [(file.name, file.artifact) for file in output.files] == [(name, True) for name in names]
    facts = json.loads((clip.root / "clip:0" / "clip-0.json").read_text())
    assert (facts["start"], facts["end"], facts["duration"], facts["text"]) == (
        1.0,
        4.0,
        3.0,
        "Ask not what your contry can do",
    )
    assert (facts["why"], facts["title"], facts["hook"], facts["files"]) == (
        "It is short.",
        "A title",
        "A hook",
        names,
    )
    assert facts["words"][0] == {"word": "ask", "punctuated_word": "Ask", "start": 0.2, "end": 0.5, "confidence": 0.9}
    assert facts["loudness"] == pytest.approx(-14, abs=1)
    for name in names[:2]:
        found = probe(clip.root / "clip:0" / name)
        assert found.video is not None
        assert (found.video.width, found.video.height) == (360, 640)
        assert found.duration == pytest.approx(3.0, abs=0.06)
    assert output.result["warnings"] == []


def test_an_edit_changes_what_it_names_and_nothing_else(clip: FannedRun) -> None:
    segments = [{"start": 3.0, "end": 4.0}, {"start": 1.0, "end": 2.0}]
    edit = {"segments": segments, "text": "your country can do Ask not what", "captions": "pop", "hook_text": ""}
    edited = params(edits={"1": edit | {"output_format": "square"}})
    facts = clip.stage("clip:1", item(1), edited).data["clip"]
    assert facts["segments"] == segments
    assert (facts["width"], facts["height"], facts["duration"]) == (360, 360, 2.0)
    assert (facts["captions"], facts["hook"], facts["title"]) == ("pop", "", "A title")
    assert facts["text"] == "your country can do Ask not what"
    untouched = clip.stage("clip:0", item(0), edited).data["clip"]
    assert (untouched["start"], untouched["end"], untouched["height"]) == (1.0, 4.0, 640)


def test_a_correction_in_writing_without_spaces_keeps_the_times_of_what_was_heard(clip: FannedRun) -> None:
    words = transcript([word(c, 1.2 + n * 0.4, 1.6 + n * 0.4) for n, c in enumerate("今天天汽好")], 11.0, "zh")
    (clip.root / "transcribe" / "words.json").write_bytes(msgspec.json.encode(words))
    made = clip.stage("clip:0", item(), params(edits={"0": {"text": "今天天气好"}}))
    assert made.data["clip"]["text"] == "今天天气好"
    told = json.loads((clip.root / "clip:0" / "clip-0.json").read_text())["words"]
    assert [(w["word"], w["start"]) for w in told] == [
        ("今", 0.2),
        ("天", 0.6),
        ("天", 1.0),
        ("气", 1.4),
        ("好", 1.8),
    ]


def test_captions_that_cannot_be_made_cost_only_themselves(clip: FannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "overlay", lambda *_: 1 / 0)
    output = clip.stage("clip:0", item())
    assert [file.name for file in output.files] == ["clip-0.mp4", "clip-0.jpg", "clip-0.json"]
    assert codes(output.result) == ["captions_failed"]
    assert output.data["clip"]["captions"] is None


def test_captions_that_cannot_be_burned_in_cost_only_themselves(
    clip: FannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = render.picture_graph
    monkeypatch.setattr(render, "picture_graph", lambda plan: graph(plan).replace("filename=", "filename=no/"))
    output = clip.stage("clip:0", item())
    assert [file.name for file in output.files] == ["clip-0.mp4", "clip-0.jpg", "clip-0.json"]
    assert codes(output.result) == ["captions_failed"]
    assert (output.data["clip"]["captions"], output.data["clip"]["hook"]) == (None, "")


@pytest.mark.parametrize("shape", ["vertical", "horizontal"])  # the latter is the film's own
def test_without_captions_and_hook_there_is_one_version(clip: FannedRun, shape: str) -> None:
    output = clip.stage("clip:0", item(), params(captions="none", hook=False, loudness=None, output_format=shape))
    assert [file.name for file in output.files] == ["clip-0.mp4", "clip-0.jpg", "clip-0.json"]
    assert output.result["warnings"] == []


@pytest.mark.parametrize(
    "edit", [{"end": 30.0}, {"start": 3.9}, {"segments": [{"start": 10.8, "end": 12.5}]}, {"start": 4.5}]
)
def test_an_edit_that_the_file_cannot_give_is_refused_by_name(clip: FannedRun, edit: dict[str, Any]) -> None:
    with pytest.raises(StageError) as caught:
        clip.stage("clip:0", item(), params(edits={"0": edit}))
    assert (caught.value.code, caught.value.retryable) == ("edit_out_of_range", False)


def test_the_end_lists_what_was_made_and_names_what_was_not(clip: FannedRun) -> None:
    clip.data["clip:1"] = {"clip": {"number": 1, "files": ["clip-1.mp4"]}}
    output = clip.stage("collect")
    assert output.result["clips"] == [{"number": 1, "files": ["clip-1.mp4"]}]
    assert (output.result["failed_clips"], codes(output.result)) == ([0], ["clip_failed"])
    assert json.loads((clip.root / "collect" / "shorts.json").read_text())["failed_clips"] == [0]


def test_an_edit_of_a_clip_that_is_not_there_is_told(clip: FannedRun) -> None:
    clip.stage("clip:0", item(0))
    clip.stage("clip:1", item(1))
    made = clip.stage("collect", params=params(edits={"1": {"title": "x"}, "2": {"title": "x"}}))
    assert made.result["warnings"] == [
        {"code": "edit_unused", "message": "There is no clip 2 to edit: there are 2, counted from 0."}
    ]


def test_a_film_without_speech_gives_clips_of_what_moves_and_says_that_nobody_speaks(
    make: Make, tmp_path: Path
) -> None:
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=12", "-f", "lavfi", "-i", "sine=d=12"]
    mute = make("mute.mp4", *inputs, "-c:v", "libx264", "-preset", "ultrafast")
    run = FannedRun(pipeline, mute, tmp_path / "run", params(target_clips=3, clip_min_seconds=5, clip_max_seconds=10))
    run.run()
    assert run.failed == {}
    assert len(run.result["clips"]) == 2
    assert codes(run.result)[:2] == ["fewer_clips", "no_speech"]
    assert {one["captions"] for one in run.result["clips"]} == {None}
    for context in run.contexts.values():
        assert context.fractions == sorted(context.fractions)


@pytest.mark.parametrize(
    ("arguments", "given", "code"),
    [
        (("-f", "lavfi", "-i", "sine=d=6"), {"clip_min_seconds": 5}, "no_video_stream"),
        (("-f", "lavfi", "-i", "sine=d=6", "-f", "lavfi", "-i", "testsrc=s=64x64:d=6"), {}, "media_too_short"),
    ],
)
def test_what_cannot_become_clips_is_refused_by_the_first_stage(
    make: Make, tmp_path: Path, arguments: tuple[str, ...], given: dict[str, Any], code: str
) -> None:
    run = FannedRun(pipeline, make("in.mp4", *arguments), tmp_path / "run", params(**given))
    with pytest.raises(MediaError) as caught:
        run.stage("probe")
    assert caught.value.code == code


SEGMENT = {"start": 1.0, "end": 2.0}


@pytest.mark.parametrize(
    "given",
    [
        {"target_clips": 0},
        {"target_clips": 16},
        {"clip_min_seconds": 4},
        {"clip_min_seconds": 176, "clip_max_seconds": 180},
        {"clip_max_seconds": 181},
        {"clip_min_seconds": 30, "clip_max_seconds": 20},
        {"output_format": "round"},
        {"captions": "loud"},
        {"loudness": 0},
        {"edits": {"15": {}}},
        {"edits": {"01": {}}},
        {"edits": {"0": {"segments": []}}},
        {"edits": {"0": {"segments": [SEGMENT] * 13}}},
        {"edits": {"0": {"segments": [{"start": 1.0, "end": 1.4}]}}},
        {"edits": {"0": {"segments": [{"start": 2.0, "end": 1.0}]}}},
        {"edits": {"0": {"segments": [{"start": 0.0, "end": 100.0}] * 2}}},
        {"edits": {"0": {"segments": [SEGMENT], "start": 1.0}}},
        {"edits": {"0": {"start": 5.0, "end": 5.2}}},
        {"edits": {"0": {"start": float("nan")}}},
        {"edits": {"0": {"texts": "x"}}},
    ],
)
def test_params_out_of_bounds_are_refused_at_submission(given: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        params(**given)


def test_params_pass_through_a_job_and_back() -> None:
    given = {"clip_min_seconds": 20, "clip_max_seconds": 20, "edits": {"2": {"segments": [SEGMENT], "text": "Hello."}}}
    kept = msgspec.to_builtins(params(**given))
    assert msgspec.to_builtins(params(**json.loads(json.dumps(kept)))) == kept
    assert kept["edits"]["2"]["segments"] == [SEGMENT]


def test_every_param_and_every_part_of_an_edit_is_described() -> None:
    schema = msgspec.json.schema(ShortsParams)["$defs"]
    for name in ("ShortsParams", "Edit", "Segment"):
        for member, definition in schema[name]["properties"].items():
            assert "description" in json.dumps(definition), member


def test_a_warning_names_its_clip(clip: FannedRun) -> None:
    output = clip.stage("clip:0", item(start=8.0, end=10.0))
    assert output.result["warnings"] == [warning("no_captions", "Nobody speaks in clip-0: it has no captions.")]
