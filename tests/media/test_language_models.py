"""A language model's answers: what agrees with the transcript is used, everything else is dropped and said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
import msgspec
import pytest

from callsheet.media import highlights, judged
from callsheet.media.errors import MediaError
from callsheet.media.language_models import ask
from callsheet.media.material import Choice, Material, Wish
from callsheet.media.providers import base, web
from callsheet.media.providers.base import ProviderSettings
from callsheet.media.shots import Shots
from callsheet.pipelines import shorts
from callsheet.pipelines import transcribe as recipe
from callsheet.pipelines.declare import InputFile, StageOutput
from callsheet.pipelines.shorts_params import ShortsParams
from callsheet.pipelines.transcribe_params import TranscribeParams
from tests.media.engines import FakeOpenAI
from tests.media.running import RecordingContext
from tests.media.spoken import talk, transcript
from tests.providers.fakes import KEY, Reply, serving

TEXT = [
    "We begin with the history of trains.",
    "They were slow at first.",
    "Now we turn to ships.",
    "Ships were older, of course.",
    "What carries the most today?",
]
WORDS = [word for n, text in enumerate(TEXT) for word in talk(text, n * 6.0, 0.5, speaker=0)]


@pytest.fixture
def model() -> Iterator[FakeOpenAI]:
    server = FakeOpenAI()
    with serving(server):
        yield server


@pytest.fixture(autouse=True)
def settings(model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> ProviderSettings:
    made = ProviderSettings(llm_key=KEY, llm_url=f"{model.url}/v1", llm_model="m", call_seconds=60.0, ready=("llm",))
    monkeypatch.setattr(base, "_current", made)
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.01)
    return made


def artifacts_of(root: Path, number: int = 0) -> tuple[StageOutput, Path]:
    """The stage `artifacts` of a transcription that asks for a summary, run for the `number`th time."""
    (root / "transcribe").mkdir(parents=True, exist_ok=True)
    (root / "transcribe" / "words.json").write_bytes(msgspec.json.encode(transcript(WORDS)))
    data: dict[str, Any] = {"quality": {"warnings": []}, "speech": {"warnings": []}}
    source = InputFile(root / "none", "none", "audio/wav", 0)
    context = RecordingContext(root, "artifacts", TranscribeParams(summarize=True), source, data)
    made = recipe.artifacts(context)
    return made, context.folder.rename(root / f"made-{number}")


def codes(output: StageOutput) -> list[str]:
    return [warning["code"] for warning in output.result["warnings"]]


def test_a_summary_and_chapters_are_in_the_result_and_the_documents(model: FakeOpenAI, tmp_path: Path) -> None:
    told = [{"title": "Ships", "start": 12.0}, {"title": "Trains", "start": 0.3}]
    model.chat = [{"summary": "Of trains and ships.", "chapters": told}]
    output, folder = artifacts_of(tmp_path)
    expected = [{"title": "Trains", "start": 0.0, "end": 12.0}, {"title": "Ships", "start": 12.0, "end": 26.5}]
    assert (output.result["summary"], output.result["chapters"]) == ("Of trains and ships.", expected)
    assert codes(output) == []
    made = json.loads((folder / "transcript.json").read_bytes())
    assert (made["summary"], made["chapters"]) == ("Of trains and ships.", expected)
    assert json.loads((folder / "document.json").read_bytes())["chapters"][1]["start_ms"] == 12000
    text = [paragraph.text for paragraph in docx.Document(str(folder / "transcript.docx")).paragraphs]
    assert "[00:12] Ships" in text
    question = model.asked[0]["messages"][1]["content"]
    assert "[12.0] Now we turn to ships." in question.splitlines()


def test_chapters_at_times_that_were_made_up_are_left_out_and_it_is_said(model: FakeOpenAI, tmp_path: Path) -> None:
    told = [{"title": "Trains", "start": 0}, {"title": "Planes", "start": 15.9}, {"title": "More", "start": 9999}]
    model.chat = [{"summary": "Of trains.", "chapters": told}]
    output, _ = artifacts_of(tmp_path)
    assert [chapter["title"] for chapter in output.result["chapters"]] == ["Trains"]
    assert codes(output) == ["chapters_dropped"]


@pytest.mark.parametrize(
    "answer",
    ["I cannot do that.", '{"summary": "', {"summary": ""}, {"summary": "x", "chapters": [{"title": "y"}]}, "[]"],
)
def test_an_answer_that_is_no_json_of_that_shape_is_asked_for_twice_and_costs_only_the_summary(
    model: FakeOpenAI, tmp_path: Path, answer: Any
) -> None:
    model.chat = [answer]
    output, folder = artifacts_of(tmp_path)
    assert (codes(output), len(model.asked)) == (["llm_failed", "summary_unavailable"], 2)
    assert (folder / "transcript.txt").exists()


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{"summary": "Of trains."}\n```',
        'Sure! Here it is:\n```\n{"summary": "Of trains."}\n```\nAnything else?',
        '<think>They want {"summary": "..."}, so be it.</think>\n\n{"summary": "Of trains."}',
    ],
    ids=["a fence", "politeness", "a thought"],
)
def test_what_a_model_says_around_its_json_is_passed_over(model: FakeOpenAI, tmp_path: Path, answer: str) -> None:
    model.chat = [answer]
    assert artifacts_of(tmp_path)[0].result["summary"] == "Of trains."
    assert len(model.asked) == 1


def test_a_second_answer_counts(model: FakeOpenAI, tmp_path: Path) -> None:
    model.chat = ["Sure! Here it comes.", '{"summary": "Of trains."}']
    assert artifacts_of(tmp_path)[0].result["summary"] == "Of trains."


def test_a_model_that_takes_no_temperature_but_its_own_is_asked_without(model: FakeOpenAI, tmp_path: Path) -> None:
    refusal = "Unsupported value: 'temperature' does not support 0 with this model."
    model.plans["chat"] = [Reply(400, {"error": {"message": refusal, "param": "temperature"}})]
    model.chat = [{"summary": "Of trains."}]
    assert artifacts_of(tmp_path)[0].result["summary"] == "Of trains."
    assert [question.get("temperature") for question in model.asked] == [0, None]


def test_a_stage_that_runs_again_asks_nobody(model: FakeOpenAI, tmp_path: Path) -> None:
    model.chat = [{"summary": "Of trains."}]
    results = [artifacts_of(tmp_path, number)[0].result for number in range(2)]
    assert results[0] == results[1]
    assert model.paid == 1


@pytest.mark.parametrize(
    ("replies", "calls"),
    [
        ([Reply(429, {}, {"Retry-After": "0"})] * 4, 4),
        ([Reply(500)] * 4, 4),
        ([Reply(504)], 1),
        ([Reply(401, {"error": {"message": "bad key"}})], 1),
        ([Reply(hang=60.0)], 1),
        ([Reply(200, b"x" * 300_000)], 1),
    ],
)
def test_a_model_that_fails_or_hangs_never_fails_the_job(
    *,
    model: FakeOpenAI,
    tmp_path: Path,
    replies: list[Reply],
    calls: int,
    settings: ProviderSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if replies[0].hang:
        monkeypatch.setattr(base, "_current", msgspec.structs.replace(settings, call_seconds=0.3))
    model.chat, model.plans["chat"] = [{"summary": "Of trains."}], replies
    output, _ = artifacts_of(tmp_path)
    model.until("chat", calls)
    assert (codes(output), len(model.calls)) == (["llm_failed", "summary_unavailable"], calls)


def test_a_busy_model_is_asked_again(model: FakeOpenAI, tmp_path: Path) -> None:
    model.chat, model.plans["chat"] = [{"summary": "Of trains."}], [Reply(429, {}, {"Retry-After": "0"})]
    assert artifacts_of(tmp_path)[0].result["summary"] == "Of trains."


def test_nobody_is_asked_where_no_model_is_configured(
    model: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_current", ProviderSettings())
    assert codes(artifacts_of(tmp_path)[0]) == ["summary_unavailable"]
    assert model.asked == []


def test_a_process_without_keys_asks_nobody(tmp_path: Path, settings: ProviderSettings) -> None:
    base.configure(settings.without_keys())
    with pytest.raises(MediaError) as caught:
        ask(tmp_path / "paid", tmp_path, "describe", task="", material="", shape=dict)
    assert caught.value.code == "llm_needs_new_job"


WISH = Wish(2, 5, 12)
CLIP = {"start": 12.0, "end": 20.5, "quote": "ships were OLDER", "title": "On ships", "hook": "Older?", "why": "Odd."}


def chosen(root: Path) -> tuple[list[Choice], list[str]]:
    """What is chosen of the talk, and what was said of what was not."""
    material = Material(30.0, tuple(WORDS), (-20.0,) * 60, Shots((), (1.0,) * 150))
    found = highlights.candidates(material, WISH)
    told: list[str] = []
    made = judged.choose(found, WISH, WORDS, ledger=root / "paid", folder=root, tell=told.append)
    return highlights.settle(made, material, WISH), told


def test_a_clip_that_agrees_with_the_transcript_is_cut_as_told(model: FakeOpenAI, tmp_path: Path) -> None:
    model.chat = [{"clips": [CLIP]}]
    made, told = chosen(tmp_path)
    (clip,) = [one for one in made if one.title]
    assert (clip.title, clip.hook, clip.why, told) == ("On ships", "Older?", "Odd.", [])
    assert 11.6 <= clip.start <= 12.0
    assert 20.5 <= clip.end <= 21.0


def test_the_scorer_fills_up_what_the_model_leaves(model: FakeOpenAI, tmp_path: Path) -> None:
    model.chat = [{"clips": [CLIP]}]
    made, _ = chosen(tmp_path)
    assert len(made) == 2
    assert all(one.end <= other.start for one, other in itertools.pairwise(made))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"start": 9.0}, "no words begin and end where it does"),
        ({"end": 5000.0}, "no words begin and end where it does"),
        ({"end": 14.5}, "it lasts 2.5 s"),
        ({"start": 0.0}, "it lasts 20.5 s"),
        ({"quote": "ships are faster"}, "its quote is not said in it"),
        ({"quote": "history of trains"}, "its quote is not said in it"),
        ({"quote": "…"}, "its quote is not said in it"),
    ],
)
def test_a_clip_that_does_not_agree_is_dropped_and_it_is_said(
    model: FakeOpenAI, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    model.chat = [{"clips": [CLIP | change]}]
    made, told = chosen(tmp_path)
    assert told == [f"clip 1 of the language model was dropped: {why}"]
    assert made
    assert not any(one.title for one in made)


def short_stage(root: Path) -> StageOutput:
    """The choices of `shorts`, as its stage makes them."""
    context = RecordingContext(root, "highlights", ShortsParams(chooser="llm"), InputFile(root, "", "", 0), {})
    material = Material(30.0, tuple(WORDS), (-20.0,) * 60, Shots((), (1.0,) * 150))
    found = highlights.candidates(material, WISH)
    made, warnings = shorts._choices(context, found, material, WISH)
    return StageOutput(items=tuple(made), result={"warnings": warnings})


def test_when_the_model_fails_the_scorer_chooses_and_it_is_said(model: FakeOpenAI, tmp_path: Path) -> None:
    model.plans["chat"] = [Reply(500)] * 4
    made = short_stage(tmp_path)
    assert (codes(made), len(made.items or ())) == (["llm_failed"], 2)


def test_choices_that_were_dropped_are_a_warning_of_the_job(model: FakeOpenAI, tmp_path: Path) -> None:
    model.chat = [{"clips": [CLIP | {"quote": "never said"}, CLIP]}]
    assert codes(short_stage(tmp_path)) == ["choices_dropped"]


def test_stages_that_ask_a_model_run_where_the_keys_are() -> None:
    def bought(pipeline: Any, **params: Any) -> list[str]:
        return [spec.name for spec in pipeline.graph(params) if spec.queue == "io"]

    assert bought(recipe.pipeline, summarize=True) == ["artifacts"]
    assert (bought(shorts.pipeline), bought(shorts.pipeline, chooser="llm")) == ([], ["highlights"])
