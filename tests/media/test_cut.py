"""Pieces of a recording: pauses left out, words kept, times that agree."""

from __future__ import annotations

import numpy as np
import pytest

from callsheet.media.audio import RATE, Samples
from callsheet.media.corrected import corrected
from callsheet.media.cut import MAX_PIECES, SHORTEST_PIECE, Cut, Piece, Stretch, on_frames, without_pauses
from callsheet.media.transcript import Word
from tests.media.spoken import talk


def sound(words: list[Word], seconds: float, pause_level: float = 0.0005) -> Samples:
    """Noise while words are spoken, next to nothing in between."""
    noise: Samples = np.random.default_rng(1).normal(0, 0.2, int(seconds * RATE)).astype(np.float32)
    loud = np.full(len(noise), pause_level, np.float32)
    for word in words:
        loud[int(word.start * RATE) : int(word.end * RATE)] = 1.0
    return noise * loud


def paused(count: int, pause: float) -> list[Word]:
    words: list[Word] = []
    for n in range(count):
        words += talk("four words are said", n * (1.2 + pause) + 0.2)
    return words


def test_quiet_pauses_go_and_every_word_stays_whole() -> None:
    words = paused(4, 2.0)
    pieces = without_pauses(0.0, 13.0, words, sound(words, 13.0))
    assert len(pieces) == 4
    assert all(any(p.start <= w.start and w.end <= p.end for p in pieces) for w in words)
    assert sum(p.end - p.start for p in pieces) == pytest.approx(13.0 - 3 * (2.0 - 0.4), abs=0.01)


def test_a_pause_full_of_music_stays() -> None:
    words = paused(3, 2.0)
    assert without_pauses(0.0, 10.0, words, sound(words, 10.0, pause_level=0.5)) == [Stretch(0.0, 10.0)]


def test_short_pauses_stay() -> None:
    words = paused(3, 0.5)
    assert without_pauses(0.0, 6.0, words, sound(words, 6.0)) == [Stretch(0.0, 6.0)]


def test_of_many_pauses_the_longest_eleven_go() -> None:
    words = paused(20, 1.5)
    pieces = without_pauses(0.0, 55.0, words, sound(words, 55.0))
    assert len(pieces) == MAX_PIECES
    assert min(p.end - p.start for p in pieces) >= SHORTEST_PIECE


def test_words_get_the_times_of_the_clip_across_its_pieces() -> None:
    words = [*talk("one", 10.0), *talk("two", 50.0), *talk("outside", 30.0)]
    cut = Cut((Piece(49.5, 60), Piece(9.0, 90)), 30.0)
    assert [(w.word, w.start, w.end) for w in cut.words(words)] == [("two", 0.5, 0.8), ("one", 3.0, 3.3)]


def test_a_cut_lies_on_whole_frames() -> None:
    cut = on_frames([Stretch(1.0, 3.01), Stretch(5.0, 6.0)], 25.0)
    assert ([p.frames for p in cut.pieces], cut.seconds) == ([50, 25], 3.0)


def heard() -> list[Word]:
    return talk("Ask not what your contry can do", 1.0, 0.5)


def times(words: list[Word]) -> list[tuple[str, float, float]]:
    return [(w.punctuated_word, w.start, w.end) for w in words]


def test_a_corrected_word_takes_the_time_of_the_one_it_replaces() -> None:
    fixed = corrected(heard(), "Ask not what your country can do!", 10.0)
    assert times(fixed)[4] == ("country", 3.0, 3.5)
    assert times(fixed)[6] == ("do!", 4.0, 4.5)


def test_two_words_in_the_place_of_one_share_its_time_by_their_letters() -> None:
    fixed = corrected(heard(), "Ask not what your old lands can do", 10.0)
    assert times(fixed)[4:6] == [("old", 3.0, 3.188), ("lands", 3.188, 3.5)]


def test_a_word_taken_out_is_gone_and_one_put_in_has_a_time_that_does_not_fall() -> None:
    fixed = corrected(heard(), "Please ask not just what your contry can", 10.0)
    assert [w.word for w in fixed] == ["please", "ask", "not", "just", "what", "your", "contry", "can"]
    starts = [w.start for w in fixed]
    assert starts == sorted(starts)
    assert all(w.end > w.start for w in fixed)


def test_no_text_at_all_is_no_words() -> None:
    assert corrected(heard(), "  ", 10.0) == []
    assert [w.word for w in corrected([], "Words from nowhere", 4.0)] == ["words", "from", "nowhere"]


def test_the_beginning_of_a_cut_is_some_whole_frames_of_it() -> None:
    cut = Cut((Piece(1.0, 10), Piece(5.0, 30)), 10.0)
    assert cut.first(1.5).pieces == (Piece(1.0, 10), Piece(5.0, 5))
    assert cut.first(9.0) == cut
    assert (cut.first(0.0).pieces, cut.first(0.0).starts()) == ((), [])
