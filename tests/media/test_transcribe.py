"""The pipeline `transcribe`, from a file to its artifacts, on real speech and without a network."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import docx
import msgspec
import pysubs2
import pytest

from callsheet.media import documents, storyboard, waveform, weights
from callsheet.media.errors import MediaError
from callsheet.media.transcript import Transcript
from callsheet.pipelines import transcribe as recipe
from callsheet.pipelines.transcribe import pipeline
from callsheet.pipelines.transcribe_engines import Partials
from callsheet.pipelines.transcribe_params import TranscribeParams
from tests.media.conftest import FIXTURES, Make
from tests.media.running import Run, run_pipeline, word_error_rate
from tests.media.spoken import talk, transcript

NAMES = [
    "transcript.txt",
    "transcript_plain.txt",
    "transcript.srt",
    "transcript.vtt",
    "transcript.json",
    "transcript.docx",
    "document.json",
]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, base_model: Path) -> Run:
    """One run over the novel, which many tests look at."""
    weights.configure(base_model.parent, offline=True)
    root = tmp_path_factory.mktemp("spoken")
    source = FIXTURES / "speech_librivox_austen" / "austen_joined.wav"
    return run_pipeline(pipeline, source, root, TranscribeParams(summarize=True))


@pytest.fixture
def silent(make: Make, tmp_path: Path) -> Run:
    quiet = make("quiet.mp3", "-f", "lavfi", "-i", "anullsrc=sample_rate=16000", "-t", "4")
    return run_pipeline(pipeline, quiet, tmp_path / "run", TranscribeParams())


def codes(run: Run) -> list[str]:
    return [warning["code"] for warning in run.result["warnings"]]


def test_the_stages_are_those_that_are_promised() -> None:
    assert [(spec.name, spec.needs) for spec in pipeline.specs] == [
        ("probe", ()),
        ("audio", ("probe",)),
        ("quality", ("probe", "audio")),
        ("speech", ("audio",)),
        ("transcribe", ("probe", "audio", "speech")),
        ("artifacts", ("quality", "speech", "transcribe")),
    ]


def test_a_novel_read_aloud_is_heard_with_at_most_one_word_in_ten_wrong(spoken: Run, austen: Path) -> None:
    reference = (austen.parent / "reference.txt").read_text()
    assert word_error_rate(reference, spoken.result["text"]) <= 0.10


def test_a_video_with_speech_is_heard_with_at_most_one_word_in_ten_wrong(make: Make, jfk: Path, tmp_path: Path) -> None:
    video = make("v.mp4", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=10", "-i", jfk, "-shortest")
    run = run_pipeline(pipeline, video, tmp_path / "run", TranscribeParams())
    reference = (jfk.parent / "reference.txt").read_text()
    assert word_error_rate(reference, run.artifact("transcript_plain.txt").read_text()) <= 0.10
    assert run.outputs["probe"].input["media_type"] == "video/mp4"


def test_the_result_holds_what_a_client_looks_for(spoken: Run) -> None:
    result = spoken.result
    assert (result["language"], result["model"], result["cost"], result["text_truncated"]) == ("en", "base", 0.0, False)
    assert result["duration"] == 24.73
    assert result["word_count"] == len(result["text"].split())
    assert 0.0 < result["confidence"]["min"] <= result["confidence"]["mean"] <= 1.0
    assert result["processing_time"] > 0
    assert result["quality"]["level"] == "good"
    assert result["speech"]["segments"] == 2
    assert result["speech"]["ratio"] == pytest.approx(0.97, abs=0.02)


def test_the_job_is_told_what_its_input_is(spoken: Run) -> None:
    assert spoken.outputs["probe"].input == {"duration": 24.73, "media_type": "audio/wav"}


def test_what_no_engine_can_do_is_a_warning(spoken: Run) -> None:
    assert codes(spoken) == ["summary_unavailable"]


def test_all_artifacts_are_there_and_marked(spoken: Run) -> None:
    files = spoken.outputs["artifacts"].files
    assert [file.name for file in files] == NAMES
    assert all(file.artifact for file in files)
    assert all(spoken.artifact(name).stat().st_size > 0 for name in NAMES)
    inner = [file for name in ("audio", "speech", "transcribe") for file in spoken.outputs[name].files]
    assert not any(file.artifact for file in inner)


LOOKS = ["waveform.json", "waveform.png", "storyboard.jpg", "storyboard.vtt"]


def test_a_recording_has_a_waveform_of_all_of_it(spoken: Run) -> None:
    files = spoken.outputs["quality"].files
    assert [(file.name, file.artifact) for file in files] == [(name, True) for name in LOOKS[:2]]
    peaks = json.loads((spoken.root / "quality" / "waveform.json").read_text())
    assert peaks["length"] * peaks["samples_per_pixel"] / peaks["sample_rate"] == pytest.approx(24.73, abs=0.02)


def test_a_video_is_shown_by_waveform_and_contact_sheet(make: Make, jfk: Path, tmp_path: Path) -> None:
    video = make("v.mp4", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=10", "-i", jfk, "-t", "2")
    made = run_to_quality(video, tmp_path / "run")
    assert [file.name for file in made.outputs["quality"].files] == LOOKS
    assert (tmp_path / "run" / "quality" / "storyboard.vtt").read_text().count("storyboard.jpg#xywh=") == 4


@pytest.mark.parametrize("how", ["damaged", "hung", "no room"])
def test_a_look_that_fails_is_a_warning_and_costs_nothing_else(
    make: Make, jfk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    whole = make("v.mp4", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=10", "-i", jfk, "-t", "2")
    video = make("d.mp4", "-i", whole, "-c", "copy", "-bsf:v", "noise=amount=1") if how == "damaged" else whole
    if how == "hung":
        monkeypatch.setattr(storyboard, "APART_SECONDS", 0.01)
    if how == "no room":
        monkeypatch.setattr(waveform, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    output = run_to_quality(video, tmp_path / "run").outputs["quality"]
    lost = "waveform" if how == "no room" else "contact sheet"
    assert output.data["warnings"][-1] == {"code": "artifact_failed", "message": f"The {lost} could not be made."}
    assert [file.name for file in output.files] == (LOOKS[2:] if how == "no room" else LOOKS[:2])
    assert output.result["quality"]["level"] == "excellent"


def run_to_quality(path: Path, root: Path) -> Run:
    """The first three stages."""
    return run_pipeline(msgspec.structs.replace(pipeline, stages=pipeline.stages[:3]), path, root, TranscribeParams())


def test_every_artifact_tells_the_same_words(spoken: Run) -> None:
    made = msgspec.json.decode(spoken.artifact("transcript.json").read_bytes(), type=Transcript)
    words = made.text.split()

    def cues(name: str) -> list[str]:
        file = pysubs2.SSAFile.from_string(spoken.artifact(name).read_text())
        return " ".join(event.plaintext for event in file).split()

    blocks = json.loads(spoken.artifact("document.json").read_text())["blocks"]
    paragraphs = docx.Document(io.BytesIO(spoken.artifact("transcript.docx").read_bytes())).paragraphs[2:]
    timed = spoken.artifact("transcript.txt").read_text().splitlines()
    assert cues("transcript.srt") == words
    assert cues("transcript.vtt") == words
    assert " ".join(block["text"] for block in blocks).split() == words
    assert " ".join(p.text.partition("] ")[2] for p in paragraphs).split() == words
    assert " ".join(line.partition("] ")[2] for line in timed).split() == words
    assert spoken.artifact("transcript_plain.txt").read_text().split() == words


def test_times_rise_and_end_with_the_recording(spoken: Run) -> None:
    made = msgspec.json.decode(spoken.artifact("transcript.json").read_bytes(), type=Transcript)
    starts = [word.start for word in made.words]
    assert starts == sorted(starts)
    assert made.words[-1].end <= made.duration


def test_progress_rises_and_partial_results_come_on_the_way(spoken: Run) -> None:
    for context in spoken.contexts.values():
        assert context.fractions == sorted(context.fractions)
    partials = spoken.contexts["transcribe"].partials
    told = [utterance["text"] for partial in partials for utterance in partial["utterances"]]
    lines = spoken.artifact("transcript.txt").read_text().splitlines()
    assert told == [line.partition("] ")[2] for line in lines]
    assert len(partials) >= 2


def test_partial_results_wait_for_a_second_to_pass(spoken: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    context = spoken.contexts["probe"]
    partials = Partials(context)
    (utterance,) = transcript(talk("Yes.")).utterances
    for at in (100.0, 100.5, 100.9, 101.1, 101.2):
        now[0] = at
        partials.add(utterance)
    partials.flush()
    assert [len(message["utterances"]) for message in context.partials] == [1, 3, 1]


def test_silence_is_an_empty_transcript_with_a_warning(silent: Run) -> None:
    assert (silent.result["text"], silent.result["word_count"], silent.result["language"]) == ("", 0, None)
    assert codes(silent) == ["low_snr", "mostly_silence", "low_level", "no_speech"]
    assert [file.name for file in silent.outputs["artifacts"].files] == NAMES
    assert silent.result["quality"]["level"] == "poor"


def test_one_artifact_that_fails_is_a_warning_and_costs_no_other(spoken: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Transcript) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(
        recipe,
        "ARTIFACTS",
        tuple((n, t, broken if n == "transcript.docx" else render) for n, t, render in recipe.ARTIFACTS),
    )
    output = recipe.artifacts(spoken.contexts["artifacts"])
    assert [file.name for file in output.files] == [name for name in NAMES if name != "transcript.docx"]
    assert output.result["warnings"][-1] == {
        "code": "artifact_failed",
        "message": "transcript.docx could not be made.",
    }


def test_a_long_text_is_cut_in_the_result_and_says_so(spoken: Run) -> None:
    made = msgspec.json.decode(spoken.artifact("transcript.json").read_bytes(), type=Transcript)
    long = msgspec.structs.replace(made, text="ä" * 40_000)
    result = recipe._result(long)
    assert (result["text"], result["text_truncated"]) == ("ä" * 32_768, True)
    assert documents.plain_text(long) == "ä" * 40_000 + "\n"


@pytest.mark.parametrize(
    "params",
    [
        {"beam_size": 0},
        {"beam_size": 11},
        {"language": "English"},
        {"model": "../secret"},
        {"model": "/etc"},
        {"hint": "x" * 501},
        {"diarise": True},
        {"diarize": "yes"},
    ],
)
def test_params_out_of_bounds_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(params, TranscribeParams)


def test_every_param_is_described() -> None:
    schema = msgspec.json.schema(TranscribeParams)["$defs"]["TranscribeParams"]["properties"]
    assert {"language", "model", "beam_size", "hint", "translate", "diarize", "corrections"} < set(schema)
    assert all("description" in json.dumps(definition) for definition in schema.values())


@pytest.mark.parametrize(
    ("params", "code"),
    [(TranscribeParams(language="xx"), "language_unsupported"), (TranscribeParams(model="none"), "model_unavailable")],
)
def test_what_cannot_be_done_is_refused_by_the_first_stage(
    jfk: Path, tmp_path: Path, params: TranscribeParams, code: str
) -> None:
    with pytest.raises(MediaError) as caught:
        run_pipeline(pipeline, jfk, tmp_path / "run", params)
    assert (caught.value.code, caught.value.retryable) == (code, False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["probe"]
