"""Windows hold every stretch of speech once, are cut where nobody speaks, and know the way back to the source."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from callsheet.media import windows
from callsheet.media.audio import RATE
from callsheet.media.speech import Region
from callsheet.media.windows import Piece
from tests.media.conftest import Make


@pytest.fixture
def minute(make: Make) -> Path:
    """A minute of a tone with a dip at each tenth second."""
    tone = "aevalsrc='if(lt(mod(t,10),0.2)*gt(t,5),0,0.5)*sin(2*PI*300*t)':sample_rate=16000:duration=60"
    return make("minute.wav", "-f", "lavfi", "-i", tone)


def test_short_stretches_share_a_window_and_are_never_cut(minute: Path) -> None:
    regions = [Region(0, 4), Region(5, 8), Region(20, 23), Region(30, 38)]
    found = list(windows.windows(minute, regions, 10))
    assert [[(p.start / RATE, p.end / RATE) for p in window] for window in found] == [
        [(0, 4), (5, 8), (20, 23)],
        [(30, 38)],
    ]


def test_a_long_stretch_is_cut_where_it_is_quiet(minute: Path) -> None:
    found = list(windows.windows(minute, [Region(0, 60)], 10))
    cuts = [window[0].start / RATE for window in found[1:]]
    assert cuts == pytest.approx([10.1, 20.1, 30.1, 40.1, 50.1], abs=0.1)


def test_windows_hold_every_sample_of_speech_once(minute: Path) -> None:
    found = [piece for window in windows.windows(minute, [Region(0, 33), Region(35, 60)], 7) for piece in window]
    joined = [(piece.start, piece.end) for piece in found]
    assert joined[0][0] == 0
    assert joined[-1][1] == 60 * RATE
    seams = [(a[1], b[0]) for a, b in itertools.pairwise(joined)]
    assert [seam for seam in seams if seam[0] != seam[1]] == [(33 * RATE, 35 * RATE)]


def test_times_in_a_window_are_mapped_to_the_source() -> None:
    window = [Piece(RATE, 3 * RATE), Piece(10 * RATE, 12 * RATE)]
    assert windows.to_source(window, 0.5, 1.0) == (1.5, 2.0)
    assert windows.to_source(window, 2.5, 3.0) == (10.5, 11.0)
    assert windows.to_source(window, 1.5, 2.2) == (2.5, 3.0)  # its middle is in the first stretch: it ends with that
    assert windows.to_source(window, 3.9, 9.0) == (11.9, 12.0)


def test_a_word_is_trimmed_to_the_speech_it_is_in() -> None:
    regions = [Region(1, 2), Region(3, 4), Region(9, 10)]
    assert windows.trim(regions, 1.5, 2.7) == (1.5, 2)
    assert windows.trim(regions, 1.8, 3.9) == (3, 3.9)
    assert windows.trim(regions, 0.2, 11) == (9, 10)
    assert windows.trim(regions, 1.95, 2.5) == (1.95, 2.5)  # speech that the detector missed
    assert windows.trim(regions, 5, 6) == (5, 6)


def test_a_window_is_closed_when_it_is_long_enough_so_that_all_are_about_equal(minute: Path) -> None:
    regions = [Region(start, start + 5) for start in range(0, 60, 6)]
    found = list(windows.windows(minute, regions, 24))
    assert [windows.length(window) / RATE for window in found] == [25, 25]


@pytest.mark.parametrize(
    ("speech", "workers", "seconds"),
    [(1000, 1, 300), (148, 2, 74), (700, 2, 175), (1200, 2, 300), (60, 2, 45), (10_000, 4, 277.7), (0, 2, 45)],
)
def test_as_many_windows_as_end_together(speech: float, workers: int, seconds: float) -> None:
    assert windows.window_seconds(speech, 300, workers) == pytest.approx(seconds, abs=0.1)


def test_stretches_are_heard_with_half_a_second_around_them_or_half_of_the_pause() -> None:
    regions = [Region(0.2, 2), Region(2.8, 4), Region(6, 9.8)]
    assert windows.widen(regions, 10.0, 0.5) == [Region(0.0, 2.4), Region(2.4, 4.5), Region(5.5, 10.0)]


def test_the_words_next_to_the_ends_of_a_recording_are_heard_to_its_very_ends() -> None:
    assert windows.widen([Region(0.2, 9.8)], 10.0, 0.5) == [Region(0.0, 10.0)]
    assert windows.widen([], 10.0, 0.5) == []
