"""A corrected transcript: what was matched keeps its time, and the rest finds one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.media.corrections import correct, split
from callsheet.media.errors import MediaError
from callsheet.media.transcript import Transcript, Word, make_word
from callsheet.pipelines import transcribe as recipe
from callsheet.pipelines.declare import InputFile, StageOutput
from callsheet.pipelines.transcribe_params import TranscribeParams
from tests.media.running import RecordingContext
from tests.media.spoken import talk, transcript


def heard() -> Transcript:
    """Three utterances by two people."""
    words = talk("Good morning mister Smyth.", speaker=0) + talk("Hello Ann how are you?", 3.0, speaker=1)
    return transcript([*words, *talk("Very well thanks.", 6.0, speaker=0)], 10.0)


def times(made: Transcript) -> dict[str, tuple[float, float]]:
    return {word.punctuated_word: (word.start, word.end) for word in made.words}


def test_words_that_match_keep_their_times_and_others_take_those_they_replace() -> None:
    made = correct(heard(), {1: "Good morning, Mister Smith."})
    assert [u.text for u in made.utterances] == [
        "Good morning, Mister Smith.",
        "Hello Ann how are you?",
        "Very well thanks.",
    ]
    assert times(made)["morning,"] == times(heard())["morning"]
    assert times(made)["Smith."] == times(heard())["Smyth."]
    assert [w.confidence for w in made.utterances[0].words] == [0.9, 0.9, 0.9, 1.0]
    assert made.text == "Good morning, Mister Smith.\n\nHello Ann how are you?\n\nVery well thanks."


def test_words_put_in_lie_between_their_neighbours() -> None:
    made = correct(heard(), {2: "Oh, hello Ann, tell me how are you?"})
    spans = [(word.start, word.end) for word in made.utterances[1].words]
    assert all(one[1] <= other[0] + 1e-6 for one, other in itertools.pairwise(spans))
    assert made.utterances[0].end <= spans[0][0]
    assert spans[-1] == (4.2, 4.5)
    assert all(word.speaker == 1 for word in made.utterances[1].words)


def test_an_utterance_without_text_is_left_out_and_the_others_keep_their_ids() -> None:
    made = correct(heard(), {2: "  "})
    assert [u.id for u in made.utterances] == [1, 3]
    assert [(s.id, s.utterance_count) for s in made.speakers] == [(0, 2)]


def test_an_utterance_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MediaError) as caught:
        correct(heard(), {4: "Hello."})
    assert caught.value.code == "unknown_utterance"


def test_a_whole_text_is_split_into_the_utterances_that_it_changes() -> None:
    text = "Good morning mister Smith.\n\nHello Anne, how are you?\n\nVery well thanks."
    assert split(heard(), text) == {1: "Good morning mister Smith.", 2: "Hello Anne, how are you?"}
    assert split(heard(), heard().text) == {}


def test_words_of_a_whole_text_go_to_the_utterance_they_follow() -> None:
    assert split(heard(), "Good morning mister Smyth. Sir! Hello Ann how are you?") == {
        1: "Good morning mister Smyth. Sir!",
        3: "",
    }


def test_a_text_without_spaces_is_aligned_by_its_characters() -> None:
    raw = [("今天", 0.0, 0.4), ("天气", 0.4, 0.8), ("很好", 0.8, 1.2)]
    words = [word for text, a, b in raw if (word := make_word(text, a, b, 0.8)) is not None]
    made = correct(transcript(words, language="zh"), {1: "今天天色很好"})
    assert made.text == "今天天色很好"
    assert times(made)["色"] == (0.6, 0.8)
    assert split(transcript(words, language="zh"), "今天天色很好") == {1: "今天天色很好"}


def test_a_text_for_a_file_in_which_nobody_speaks_is_an_error() -> None:
    with pytest.raises(MediaError) as caught:
        split(transcript([], 5.0), "Hello.")
    assert caught.value.code == "nothing_to_correct"


VOCABULARY = st.sampled_from(["the", "a", "Smith", "very", "good", "morning,", "are", "hello!", "well", "you"])


@settings(deadline=None)
@given(st.lists(VOCABULARY, max_size=30))
def test_whatever_the_text_all_of_it_is_there_in_order_and_in_time(parts: list[str]) -> None:
    made = correct(heard(), split(heard(), " ".join(parts)))
    assert " ".join(made.text.split()) == " ".join(parts)
    assert all(0 <= w.start <= w.end <= made.duration for w in made.words)
    assert all(one.start <= other.start for one, other in itertools.pairwise(made.words))


def test_two_hours_are_corrected_as_a_whole_text() -> None:
    vocabulary = [f"word{n % 997}" if n % 3 else "the" for n in range(20_000)]
    words = [Word(w, w, n * 0.36, n * 0.36 + 0.3, 0.9) for n, w in enumerate(vocabulary)]
    changed = ["those" if n % 1000 == 7 else w for n, w in enumerate(vocabulary)]
    made = correct(whole := transcript(words, 7300.0), split(whole, " ".join(changed)))
    assert made.text.split() == changed


def artifacts_of(folder: Path, **params: Any) -> tuple[StageOutput, Path]:
    """The stage `artifacts` on the transcript above."""
    (folder / "transcribe").mkdir(parents=True)
    (folder / "transcribe" / "words.json").write_bytes(msgspec.json.encode(heard()))
    data: dict[str, Any] = {"quality": {"warnings": []}, "speech": {"warnings": []}}
    source = InputFile(folder / "none", "none", "audio/wav", 0)
    context = RecordingContext(folder, "artifacts", msgspec.convert(params, TranscribeParams), source, data)
    return recipe.artifacts(context), context.folder


def test_all_artifacts_and_the_result_tell_the_corrected_text(tmp_path: Path) -> None:
    output, folder = artifacts_of(tmp_path, corrections=[{"utterance": 1, "text": "Good day, Mister Smith."}])
    for name in ("transcript.txt", "transcript_plain.txt", "transcript.srt", "transcript.vtt", "transcript.json"):
        assert "Good day, Mister Smith." in (folder / name).read_text()
    assert json.loads((folder / "document.json").read_text())["blocks"][0]["text"] == "Good day, Mister Smith."
    assert output.result["text"].startswith("Good day, Mister Smith.")
    assert output.result["corrected"] is True


def test_nothing_is_said_of_corrections_where_there_are_none(tmp_path: Path) -> None:
    assert set(artifacts_of(tmp_path)[0].result) == {"warnings"}


@pytest.mark.parametrize(
    "params",
    [
        {"corrections": [{"utterance": 0, "text": ""}]},
        {"corrections": [{"utterance": 1, "text": "x" * 5001}]},
        {"corrections": [{"utterance": 1, "text": "a"}, {"utterance": 1, "text": "b"}]},
        {"corrections": [{"utterance": 1, "text": "a"}], "corrected_text": "b"},
        {"corrected_text": "x" * 200_001},
    ],
)
def test_corrections_out_of_bounds_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(params, TranscribeParams)


def test_recognition_does_not_see_corrections() -> None:
    uses = {stage.spec.name: stage.spec.uses for stage in recipe.pipeline.stages}
    assert not {"corrections", "corrected_text"} & set(uses["transcribe"] or ())
