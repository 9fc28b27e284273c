"""Words become utterances, paragraphs and speakers by rules that can be told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.media.transcript import Confidence, Speaker, Transcript, ends_sentence, make_word
from tests.media.spoken import talk, transcript, word


def texts(made: Transcript) -> list[str]:
    return [utterance.text for utterance in made.utterances]


def test_a_word_is_kept_bare_and_as_it_is_written() -> None:
    made = word(' "Hello,', 1.0, 1.5, 0.87654)
    assert (made.word, made.punctuated_word, made.confidence) == ("hello", '"Hello,', 0.8765)


def test_a_word_of_nothing_but_space_is_none() -> None:
    assert make_word("  ", 0, 1, 1.0) is None
    assert make_word("\x00\x07", 0, 1, 1.0) is None


def test_what_a_document_cannot_hold_is_left_out_of_a_word() -> None:
    assert word(" a\x00b\ud800c", 0, 1).punctuated_word == "abc"


def test_a_word_does_not_end_before_it_begins() -> None:
    assert word(" a", 2.0, 1.0).end == 2.0


def test_words_that_are_written_together_are_joined_without_a_space() -> None:
    made = transcript([word("你", 0, 0.2), word("好", 0.2, 0.4)], language="zh")
    assert made.text == "你好"


def test_an_utterance_ends_at_a_pause_of_0_8_s() -> None:
    first, second = talk("one two"), talk("three four", start=1.41)
    assert texts(transcript([*first, *second])) == ["one two", "three four"]
    assert texts(transcript([*first, *talk("three four", start=1.39)])) == ["one two three four"]


def test_an_utterance_ends_after_a_sentence_and_a_short_pause() -> None:
    assert texts(transcript([*talk("It ends."), *talk("It begins.", start=0.91)])) == ["It ends.", "It begins."]
    assert texts(transcript([*talk("It ends."), *talk("It begins.", start=0.61)])) == ["It ends. It begins."]


@pytest.mark.parametrize("title", ["Mr.", "Dr.", "“Mrs.", "prof."])
def test_the_full_stop_of_a_title_ends_no_sentence(title: str) -> None:
    assert not ends_sentence(talk(title)[0])
    assert ends_sentence(talk("Dashwood.")[0])


def test_an_utterance_ends_where_the_speaker_changes() -> None:
    made = transcript([*talk("yes", speaker=0), *talk("no", start=0.3, speaker=1), *talk("oh", start=0.6, speaker=0)])
    assert texts(made) == ["yes", "no", "oh"]
    assert made.speakers == (Speaker(0, "Speaker 1", 0.6, 2), Speaker(1, "Speaker 2", 0.3, 1))


def test_speech_without_a_pause_is_parted_after_30_s() -> None:
    made = transcript(talk("word " * 250))
    assert all(utterance.end - utterance.start <= 30.3 for utterance in made.utterances)
    assert sum(len(utterance.words) for utterance in made.utterances) == 250


def test_a_paragraph_ends_at_a_pause_of_two_seconds_and_at_another_speaker() -> None:
    words = [*talk("One.", speaker=0), *talk("Two.", start=1.5, speaker=0), *talk("Three.", start=4.0, speaker=0)]
    words += talk("Four.", start=4.4, speaker=1)
    assert [(p.text, p.utterances) for p in transcript(words).paragraphs] == [
        ("One. Two.", (1, 2)),
        ("Three.", (3,)),
        ("Four.", (4,)),
    ]


def test_the_figures_are_over_all_words() -> None:
    made = transcript([word(" a", 0, 1, 0.5), word(" b", 1, 2, 1.0)])
    assert (made.word_count, made.confidence, made.cost) == (2, Confidence(0.75, 0.5), 0.0)


def test_nothing_said_is_a_transcript_too() -> None:
    made = transcript([])
    assert (made.text, made.word_count, made.confidence, made.utterances) == ("", 0, Confidence(0.0, 0.0), ())


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1), st.sampled_from([" a", " b.", " c,", "d"])), max_size=60))
def test_no_word_is_lost_and_their_order_is_kept(steps: list[tuple[float, float, str]]) -> None:
    words, now = [], 0.0
    for pause, length, raw in steps:
        words.append(word(raw, now + pause, now + pause + length))
        now += pause + length
    made = transcript(words)
    assert list(made.words) == words
    assert [i for p in made.paragraphs for i in p.utterances] == [u.id for u in made.utterances]


def test_a_transcript_survives_json() -> None:
    made = transcript(talk("Once more, with feeling.", speaker=1))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Transcript) == made


def test_a_word_without_a_speaker_says_nothing_of_speakers() -> None:
    assert "speaker" not in msgspec.to_builtins(word(" a", 0, 1))
    assert msgspec.to_builtins(word(" a", 0, 1, speaker=0))["speaker"] == 0


@pytest.mark.parametrize("confidence", [-0.1, 1.1])
def test_confidence_is_kept_between_0_and_1(confidence: float) -> None:
    assert word(" a", 0, 1, confidence).confidence in {0.0, 1.0}
