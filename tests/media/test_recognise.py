"""Words are heard, in windows of any size, at the times of the source."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from callsheet.media import recognise, speech
from callsheet.media.audio import RATE, Samples, wav_seconds
from callsheet.media.errors import MediaError
from callsheet.media.recognise import Heard, Options, Piece
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


def test_short_stretches_share_a_window_and_are_never_cut(minute: Path) -> None:
    regions = [Region(0, 4), Region(5, 9), Region(20, 23), Region(30, 38)]
    found = list(recognise.windows(minute, regions, 10))
    assert [[(p.start / RATE, p.end / RATE) for p in window] for window in found] == [
        [(0, 4), (5, 9)],
        [(20, 23)],
        [(30, 38)],
    ]


def test_a_long_stretch_is_cut_where_it_is_quiet(minute: Path) -> None:
    found = list(recognise.windows(minute, [Region(0, 60)], 12))
    cuts = [window[0].start / RATE for window in found[1:]]
    assert cuts == pytest.approx([10.1, 20.1, 30.1, 40.1, 50.1], abs=0.1)


def test_windows_hold_every_sample_of_speech_once(minute: Path) -> None:
    found = [piece for window in recognise.windows(minute, [Region(0, 33), Region(35, 60)], 7) for piece in window]
    joined = [(piece.start, piece.end) for piece in found]
    assert joined[0][0] == 0
    assert joined[-1][1] == 60 * RATE
    seams = [(a[1], b[0]) for a, b in itertools.pairwise(joined)]
    assert [seam for seam in seams if seam[0] != seam[1]] == [(33 * RATE, 35 * RATE)]


def test_times_in_a_window_are_mapped_to_the_source() -> None:
    window = [Piece(RATE, 3 * RATE), Piece(10 * RATE, 12 * RATE)]
    assert recognise.to_source(window, 0.5, 1.0) == (1.5, 2.0)
    assert recognise.to_source(window, 2.5, 3.0) == (10.5, 11.0)
    assert recognise.to_source(window, 1.5, 2.2) == (2.5, 3.0)  # its middle is in the first stretch: it ends with that
    assert recognise.to_source(window, 3.9, 9.0) == (11.9, 12.0)


def test_what_is_split_at_a_hyphen_is_one_word() -> None:
    parts = [Heard(" ill", 0, 1, 0.9), Heard("-disposed", 1, 2, 0.5), Heard(" man", 2, 3, 0.8)]
    assert list(recognise.whole_words(parts)) == [Heard(" ill-disposed", 0, 2, 0.5), Heard(" man", 2, 3, 0.8)]


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


def test_progress_is_the_share_of_the_speech_that_is_done(
    minute: Path, listener: list[dict[str, Any]], tmp_path: Path
) -> None:
    seen: list[float] = []
    regions = [Region(0, 8), Region(20, 28), Region(30, 34)]
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


def test_the_model_is_loaded_once(base_model: Path) -> None:
    assert recognise.load(base_model) is recognise.load(base_model)


def test_no_word_is_lost_where_speech_is_cut_into_windows(
    austen: Path, base_model: Path, speech_wav: Callable[[Path], Path]
) -> None:
    wav = speech_wav(austen)
    whole = [Region(0.0, wav_seconds(wav))]
    heard = recognise.recognise(wav, whole, base_model, Options(language="en", window_seconds=9))
    text = " ".join(utterance.text for utterance in heard.utterances)
    assert word_error_rate((austen.parent / "reference.txt").read_text(), text) <= 0.10


def test_a_word_is_trimmed_to_the_speech_it_is_in() -> None:
    regions = [Region(1, 2), Region(3, 4), Region(9, 10)]
    assert recognise.trim(regions, 1.5, 2.7) == (1.5, 2)
    assert recognise.trim(regions, 1.8, 3.9) == (3, 3.9)
    assert recognise.trim(regions, 0.2, 11) == (9, 10)
    assert recognise.trim(regions, 1.95, 2.5) == (1.95, 2.5)  # speech that the detector missed
    assert recognise.trim(regions, 5, 6) == (5, 6)


def test_stretches_are_heard_with_half_a_second_around_them() -> None:
    regions = [Region(0.2, 2), Region(2.9, 4), Region(6, 9.8)]
    assert recognise.widen(regions, 10.0) == [Region(0.0, 4.5), Region(5.5, 10.0)]


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
