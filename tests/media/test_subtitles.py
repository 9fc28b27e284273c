"""Subtitles parse, can be read in time, and lose no word."""

from __future__ import annotations

import html
import re

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.media import subtitles
from callsheet.media.subtitles import Cue, cues
from callsheet.media.transcript import Word
from tests.media.spoken import talk, transcript, word

PROSE = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light. There is a king
with a large jaw and a queen with a plain face, on the throne of England; there is another king elsewhere."""


def text(found: list[Cue]) -> str:
    return " ".join(line for cue in found for line in cue.lines)


def test_no_line_is_longer_than_42_and_no_cue_has_more_than_two() -> None:
    found = cues(transcript(talk(PROSE)))
    assert max(len(line) for cue in found for line in cue.lines) <= 42
    assert {len(cue.lines) for cue in found} <= {1, 2}
    assert text(found) == " ".join(PROSE.split())


def test_a_cue_lasts_one_to_seven_seconds_and_leaves_time_to_read_it() -> None:
    found = cues(transcript(talk(PROSE, each=0.35)))
    assert text(found) == " ".join(PROSE.split())
    for cue in found:
        shown = cue.end_ms - cue.start_ms
        assert 1000 <= shown <= 7000
        assert sum(map(len, cue.lines)) / (shown / 1000) <= 21


def test_a_short_word_before_a_pause_is_held_for_a_second() -> None:
    assert cues(transcript([*talk("No."), *talk("Yes.", start=5.0)]))[0] == Cue(0, 1000, ("No.",))


def test_a_held_cue_ends_40_ms_before_the_next() -> None:
    first, second = cues(transcript([word(" No.", 0, 0.2), word(" Yes.", 1.01, 1.5)]))
    assert (first.end_ms, second.start_ms) == (970, 1010)


def test_two_lines_are_of_nearly_the_same_length() -> None:
    (cue,) = cues(transcript(talk("The quick brown fox jumps over the very lazy dog", each=0.2)))
    assert cue.lines == ("The quick brown fox jumps", "over the very lazy dog")


def test_a_full_cue_ends_rather_after_a_comma() -> None:
    first = cues(
        transcript(talk("He was not in the least an ill disposed young person, unless to be rather cold is so"))
    )[0]
    assert first.lines[-1].endswith("person,")


def test_a_word_longer_than_a_line_is_cut() -> None:
    found = cues(transcript([word(" " + "x" * 100, 0, 3)]))
    assert "".join(line for cue in found for line in cue.lines) == "x" * 100
    assert max(len(line) for cue in found for line in cue.lines) == 42


def test_srt_parses_back_to_the_cues() -> None:
    made = transcript(talk(PROSE))
    parsed = pysubs2.SSAFile.from_string(subtitles.srt(made), format_="srt")
    assert [(e.start, e.end, e.plaintext) for e in parsed] == [
        (cue.start_ms, cue.end_ms, "\n".join(cue.lines)) for cue in cues(made)
    ]


def test_vtt_parses_back_to_the_cues() -> None:
    made = transcript(talk(PROSE))
    written = subtitles.vtt(made)
    parsed = pysubs2.SSAFile.from_string(written, format_="vtt")
    assert written.startswith("WEBVTT\n\n")
    assert [(e.start, e.end, e.plaintext) for e in parsed] == [
        (cue.start_ms, cue.end_ms, "\n".join(cue.lines)) for cue in cues(made)
    ]


def test_times_past_an_hour_are_written_in_full() -> None:
    made = transcript(talk("Late.", start=3725.5))
    assert "01:02:05,500 --> 01:02:06,500" in subtitles.srt(made)
    assert "01:02:05.500 --> 01:02:06.500" in subtitles.vtt(made)


def test_speakers_are_named_where_they_were_told_apart() -> None:
    made = transcript([*talk("Yes.", speaker=0), *talk("No.", start=2.0, speaker=1), *talk("Why?", start=4, speaker=1)])
    assert [e.plaintext for e in pysubs2.SSAFile.from_string(subtitles.srt(made))] == [
        "Speaker 1: Yes.",
        "Speaker 2: No.",
        "Why?",
    ]
    assert re.findall("<v .*", subtitles.vtt(made)) == ["<v Speaker 1>Yes.", "<v Speaker 2>No.", "<v Speaker 2>Why?"]


def test_a_named_speaker_counts_towards_the_line() -> None:
    made = transcript(talk(PROSE, speaker=0))
    assert max(len(line) for cue in cues(made, labels=True) for line in cue.lines) <= 42


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    made = transcript([word(" <b>", 0, 1), word(" {\\an8}", 1, 2), word(" a&b", 2, 3), word(" -->", 3, 4)])
    assert "<b> {/an8} a&b -->" in subtitles.srt(made)
    assert "&lt;b&gt; {/an8} a&amp;b --&gt;" in subtitles.vtt(made)


def test_nothing_said_is_an_empty_file() -> None:
    assert subtitles.srt(transcript([])) == ""
    assert subtitles.vtt(transcript([])).strip() == "WEBVTT"


def test_the_same_transcript_gives_the_same_subtitles() -> None:
    assert subtitles.srt(transcript(talk(PROSE))) == subtitles.srt(transcript(talk(PROSE)))


RAW = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=60)
STEPS = st.lists(st.tuples(st.floats(-0.5, 3), st.floats(0, 2), RAW, st.booleans(), st.sampled_from([None, 0, 1])))


@pytest.mark.parametrize("labels", [False, True])
@settings(deadline=None)
@given(steps=STEPS)
def test_cues_rise_fit_and_do_not_overlap_whatever_was_heard(
    labels: bool, steps: list[tuple[float, float, str, bool, int | None]]
) -> None:
    words: list[Word] = []
    now = 0.0
    for pause, length, raw, spaced, speaker in steps:
        start = max(0.0, now + pause)
        words.append(word((" " if spaced else "") + raw, start, start + length, speaker=speaker))
        now = start + length
    made = transcript(words)
    found = cues(made, labels=labels)
    times = [time for cue in found for time in (cue.start_ms, cue.end_ms)]
    assert times == sorted(times)
    assert all(cue.start_ms < cue.end_ms for cue in found)
    assert all(len(line) <= 42 for cue in found for line in cue.lines)
    assert all(1 <= len(cue.lines) <= 2 for cue in found)
    if not labels:
        shown = "".join(line for cue in found for line in cue.lines).replace(" ", "")
        assert shown == "".join(w.punctuated_word for w in words)
    assert html.unescape(subtitles.vtt(made)).count("-->") >= len(cues(made))
