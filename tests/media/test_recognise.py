"""Words are heard, in windows of any size, at the times of the source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from callsheet.media import recognise, speech
from callsheet.media.audio import RATE, Samples, wav_seconds
from callsheet.media.errors import MediaError
from callsheet.media.recognise import Heard, Options
from callsheet.media.speech import Region
from tests.media.conftest import Make
from tests.media.running import word_error_rate

EXACT = Options(window_seconds=10, margin_seconds=0)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A recogniser that hears one word in each second of a window; gives the calls it gets."""
    calls: list[dict[str, Any]] = []

    def transcribe(audio: Samples, **options: Any) -> tuple[Iterator[Any], Any]:
        seconds = len(audio) // RATE
        calls.append({"seconds": seconds, **options})
        words = [SimpleNamespace(word=f" w{n}", start=n + 0.2, end=n + 0.8, probability=0.5) for n in range(seconds)]
        language = options["language"] or "de"
        return iter([SimpleNamespace(words=words, end=float(seconds))]), SimpleNamespace(
            language=language, language_probability=0.75
        )

    monkeypatch.setattr(recognise, "load", lambda *_: SimpleNamespace(transcribe=transcribe))
    return calls


@pytest.fixture
def minute(make: Make) -> Path:
    """A minute of a tone with a dip at each tenth second."""
    tone = "aevalsrc='if(lt(mod(t,10),0.2)*gt(t,5),0,0.5)*sin(2*PI*300*t)':sample_rate=16000:duration=60"
    return make("minute.wav", "-f", "lavfi", "-i", tone)


def test_what_is_split_at_a_hyphen_is_one_word() -> None:
    parts = [Heard(" ill", 0, 1, 0.9), Heard("-disposed", 1, 2, 0.5), Heard(" man", 2, 3, 0.8)]
    assert list(recognise.whole_words(parts)) == [Heard(" ill-disposed", 0, 2, 0.5), Heard(" man", 2, 3, 0.8)]


@pytest.mark.parametrize(
    ("options", "task", "temperatures"),
    [
        (Options(), "transcribe", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Options(translate=True, temperature=0.5), "translate", [0.5, 0.7, 0.9]),
    ],
)
def test_the_recogniser_is_asked_for_the_task_and_the_temperatures_that_are_wanted(
    minute: Path,
    listener: list[dict[str, Any]],
    tmp_path: Path,
    *,
    options: Options,
    task: str,
    temperatures: list[float],
) -> None:
    recognise.recognise(minute, [Region(0, 5)], tmp_path, options)
    assert [(call["task"], call["temperature"]) for call in listener] == [(task, temperatures)]


def test_words_of_all_windows_come_in_order_at_their_times(
    minute: Path, listener: list[dict[str, Any]], tmp_path: Path
) -> None:
    heard = recognise.recognise(minute, [Region(0, 5), Region(20, 25), Region(40, 45)], tmp_path, EXACT)
    starts = [word.start for utterance in heard.utterances for word in utterance.words]
    assert starts == [start + n + 0.2 for start in (0, 20, 40) for n in range(5)]
    assert [call["seconds"] for call in listener] == [10, 5]


def test_the_language_of_the_first_window_is_that_of_all(
    minute: Path, listener: list[dict[str, Any]], tmp_path: Path
) -> None:
    heard = recognise.recognise(minute, [Region(0, 8), Region(20, 28)], tmp_path, EXACT)
    assert [call["language"] for call in listener] == [None, "de"]
    assert (heard.language, heard.language_probability) == ("de", 0.75)


def test_windows_are_heard_at_once_and_their_words_come_in_order(
    minute: Path, listener: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    regions = [Region(start, start + 10) for start in range(0, 60, 10)]
    one = recognise.recognise(minute, regions, tmp_path, Options("de", window_seconds=20, margin_seconds=0))
    assert len(listener) > 2
    first_two, both = iter(range(2)), threading.Barrier(2)
    listening = recognise.load(tmp_path, "", 1).transcribe

    def meeting(audio: Samples, **options: Any) -> tuple[Iterator[Any], Any]:
        segments, info = listening(audio, **options)

        def heard() -> Iterator[Any]:
            if next(first_two, None) is not None:
                both.wait(60)
            yield from segments

        return heard(), info

    monkeypatch.setattr(recognise, "load", lambda *_: SimpleNamespace(transcribe=meeting))
    two = recognise.recognise(minute, regions, tmp_path, Options("de", window_seconds=20, margin_seconds=0, threads=2))
    assert two == one
    starts = [word.start for utterance in two.utterances for word in utterance.words]
    assert starts == [n + 0.2 for n in range(60)]


def test_what_goes_wrong_in_a_window_is_told_to_whoever_asked(
    minute: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def transcribe(_audio: Samples, **_options: Any) -> tuple[Iterator[Any], Any]:
        return iter([None]), SimpleNamespace(language="de", language_probability=1.0)

    monkeypatch.setattr(recognise, "load", lambda *_: SimpleNamespace(transcribe=transcribe))
    with pytest.raises(AttributeError):
        recognise.recognise(minute, [Region(0, 5)], tmp_path, EXACT)


def test_progress_is_the_share_of_the_speech_that_is_done(
    minute: Path, listener: list[dict[str, Any]], tmp_path: Path
) -> None:
    seen: list[float] = []
    regions = [Region(0, 10), Region(20, 30), Region(40, 45)]
    recognise.recognise(minute, regions, tmp_path, EXACT, on_progress=seen.append)
    assert sorted(set(seen)) == [0.4, 0.8, 1.0]
    assert seen == sorted(seen)
    assert len(listener) == 3


def test_each_utterance_is_told_once_and_in_order(minute: Path, listener: list[dict[str, Any]], tmp_path: Path) -> None:
    told: list[Any] = []
    heard = recognise.recognise(minute, [Region(0, 5), Region(20, 25)], tmp_path, EXACT, on_utterance=told.append)
    assert tuple(told) == heard.utterances
    assert [utterance.id for utterance in told] == [1, 2]
    assert len(listener) == 1


def test_without_speech_no_model_is_needed(minute: Path, tmp_path: Path) -> None:
    heard = recognise.recognise(minute, [], tmp_path / "no model")
    assert (heard.utterances, heard.language) == ((), None)


def test_a_folder_that_holds_no_model_is_named_unavailable(minute: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="model_unavailable"):
        recognise.recognise(minute, [Region(0, 5)], tmp_path)


def test_a_language_that_nobody_knows_is_refused() -> None:
    recognise.check_language("en")
    recognise.check_language(None)
    with pytest.raises(MediaError, match="language_unsupported"):
        recognise.check_language("xx")


def test_a_retry_with_such_a_language_is_refused_by_the_same_name(minute: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="language_unsupported"):
        recognise.recognise(minute, [Region(0.0, 60.0)], tmp_path, Options(language="xx"))


def test_the_model_is_loaded_once(base_model: Path) -> None:
    assert recognise.load(base_model) is recognise.load(base_model)


def test_no_word_is_lost_where_speech_is_cut_into_windows(
    austen: Path, base_model: Path, speech_wav: Callable[[Path], Path]
) -> None:
    wav = speech_wav(austen)
    whole = [Region(0.0, wav_seconds(wav))]
    heard = recognise.recognise(wav, whole, base_model, Options(language="en", window_seconds=9, threads=2))
    text = " ".join(utterance.text for utterance in heard.utterances)
    assert word_error_rate((austen.parent / "reference.txt").read_text(), text) <= 0.10


def test_words_lie_within_the_speech_they_were_heard_in(
    jfk: Path, base_model: Path, speech_wav: Callable[[Path], Path], make: Make
) -> None:
    late = make("late.wav", "-i", jfk, "-af", "adelay=15000:all=1")
    wav = speech_wav(late)
    regions = speech.find_speech(wav).regions
    words = [w for u in recognise.recognise(wav, regions, base_model).utterances for w in u.words]
    assert all(any(r.start - 0.01 <= w.start <= w.end <= r.end + 0.01 for r in regions) for w in words)
    ask = next(w for w in words if w.word == "ask")
    assert ask.start == pytest.approx(18.3, abs=0.3)  # "ask not" is spoken at 3.3 s of the original
    assert np.all(np.diff([w.start for w in words]) >= 0)
