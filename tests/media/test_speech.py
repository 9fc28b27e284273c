"""Speech is found where it is, and nowhere else, whatever the length of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.media import speech
from callsheet.media.audio import RATE, read_wav
from callsheet.media.speech import Region, regions
from tests.media.conftest import Make

STEP = speech.WINDOW / RATE


def spoken(*stretches: tuple[float, float], seconds: float = 10.0) -> list[float]:
    """Probabilities of a recording in which the given stretches (start, end) are certain speech."""
    times = np.arange(int(seconds / STEP)) * STEP
    return [float(any(start <= time < end for start, end in stretches)) for time in times]


def test_speech_is_found_between_silences(make: Make, jfk: Path, speech_wav: Callable[[Path], Path]) -> None:
    padded = make("padded.wav", "-i", jfk, "-af", "adelay=20000:all=1,apad=pad_dur=30")
    found = speech.find_speech(speech_wav(padded))
    assert found.duration == pytest.approx(61.0, abs=0.01)
    assert found.regions[0].start == pytest.approx(20.2, abs=0.2)
    assert found.regions[-1].end == pytest.approx(30.6, abs=0.2)
    assert 6.0 < found.seconds < 10.0


def test_silence_and_noise_hold_no_speech(make: Make, speech_wav: Callable[[Path], Path]) -> None:
    quiet = make("q.wav", "-f", "lavfi", "-i", "anullsrc=sample_rate=16000:channel_layout=mono", "-t", "5")
    assert speech.find_speech(speech_wav(quiet)).regions == ()
    hiss = make("n.wav", "-f", "lavfi", "-i", "anoisesrc=amplitude=0.1:seed=1:duration=5")
    assert speech.find_speech(speech_wav(hiss)).regions == ()


def test_blocks_give_the_probabilities_of_the_whole(jfk: Path, speech_wav: Callable[[Path], Path]) -> None:
    samples = read_wav(speech_wav(jfk))
    samples = samples[: len(samples) // speech.WINDOW * speech.WINDOW]
    whole = np.ravel(get_vad_model()(samples.copy()))
    size = 7 * speech.WINDOW
    blocks = [samples[at : at + size] for at in range(0, len(samples), size)]
    # all but the last window, of which the other side blanks the tail
    assert list(speech.probabilities(blocks))[:-1] == pytest.approx(whole[:-1].tolist(), abs=1e-3)


def test_progress_reaches_most_of_the_file(make: Make, jfk: Path, speech_wav: Callable[[Path], Path]) -> None:
    seen: list[float] = []
    long = make("l.wav", "-i", jfk, "-af", "apad=whole_dur=150")
    speech.find_speech(speech_wav(long), progress=seen.append)
    assert seen == pytest.approx([0.0, 0.4, 0.8], abs=0.01)


def test_a_stretch_is_padded_by_a_tenth_of_a_second() -> None:
    assert list(regions(spoken((1.984, 4.0)), 10.0)) == [Region(1.884, 4.1)]


def test_padding_stays_within_the_recording() -> None:
    assert list(regions(spoken((0.0, 10.0)), 10.0)) == [Region(0.0, 10.0)]


def test_a_pause_of_less_than_half_a_second_does_not_part_speech() -> None:
    assert len(list(regions(spoken((1.0, 3.0), (3.4, 5.0)), 10.0))) == 1
    assert len(list(regions(spoken((1.0, 3.0), (3.7, 5.0)), 10.0))) == 2


def test_a_sound_of_less_than_a_quarter_of_a_second_is_no_speech() -> None:
    assert list(regions(spoken((1.0, 1.2)), 10.0)) == []
    assert len(list(regions(spoken((1.0, 1.35)), 10.0))) == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=400), st.floats(0.05, 0.4))
def test_regions_rise_do_not_overlap_and_lie_within_the_recording(windows: list[float], pad: float) -> None:
    duration = len(windows) * STEP
    found = list(regions(windows, duration, speech.SpeechOptions(pad=pad)))
    edges = [edge for region in found for edge in (region.start, region.end)]
    assert edges == sorted(edges)
    assert all(region.start < region.end for region in found)
    assert not edges or (edges[0] >= 0 and edges[-1] <= duration + 0.001)
