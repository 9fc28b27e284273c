"""Highlights: what is chosen, where it is cut, and what is said of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.media.blurb import LIMITS, shortened, written
from callsheet.media.features import WHY, why
from callsheet.media.highlights import WEIGHTS, WEIGHTS_UNSPOKEN, candidates, choose, settle, shortlist
from callsheet.media.material import FLOOR, Candidate, Choice, Material, Wish
from callsheet.media.sentences import LEAD, TAIL, edges, sentences
from callsheet.media.shots import SAMPLE_SECONDS, Shots
from callsheet.media.transcript import Word
from tests.media.spoken import talk

PLAIN = "This is a sentence which says nothing much about things."


def lecture(texts: Sequence[str], pause: float = 1.0, each: float = 0.4) -> tuple[Word, ...]:
    """Sentences with a pause after each."""
    words: list[Word] = []
    for text in texts:
        words += talk(text, (words[-1].end + pause) if words else 0.5, each)
    return tuple(words)


def material(words: Sequence[Word], duration: float | None = None, **changes: object) -> Material:
    seconds = duration or (words[-1].end + 2.0 if words else 60.0)
    plain = {"levels": (-20.0,) * int(seconds * 2), "shots": Shots((), (1.0,) * int(seconds * 5)), **changes}
    return Material(seconds, tuple(words), plain["levels"], plain["shots"])  # type: ignore[arg-type]


def chosen(made: Material, wish: Wish) -> list[Choice]:
    return settle(choose(candidates(made, wish), wish), made, wish)


def test_as_many_clips_as_asked_are_chosen_each_as_long_as_asked_and_none_overlaps_another() -> None:
    found = chosen(material(lecture([PLAIN] * 40)), Wish(5, 10, 20))
    assert len(found) == 5
    assert all(10 <= clip.end - clip.start <= 20 for clip in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


def test_no_clip_begins_or_ends_with_a_moment_of_another_shot() -> None:
    words = lecture([PLAIN] * 3, pause=3.0)
    first, last = words[len(PLAIN.split())].start, words[2 * len(PLAIN.split()) - 1].end
    answer = [Choice(first - LEAD, last + TAIL, 1.0)]
    cuts = (first - 0.2, last + 0.3)
    (clip,) = settle(answer, material(words, shots=Shots(cuts, (1.0,))), Wish(1, 2, 20))
    assert (clip.start, clip.end) == pytest.approx((cuts[0], cuts[1] - SAMPLE_SECONDS))
    for still in ((first + 0.1,), (last - 0.1,), ()):
        (clip,) = settle(answer, material(words, shots=Shots(still, (1.0,))), Wish(1, 2, 20))
        assert (clip.start, clip.end) == pytest.approx((first - LEAD, last + TAIL))
    (clip,) = settle(answer, material(words, shots=Shots(cuts, (1.0,))), Wish(1, last - first + 0.7, 20))
    assert (clip.start, clip.end) == pytest.approx((first - LEAD, last + TAIL))  # or it would be too short


def test_there_are_fewer_where_the_material_holds_no_more() -> None:
    assert len(chosen(material(lecture([PLAIN] * 8)), Wish(9, 10, 20))) == 2


def test_a_tight_recording_still_gives_all_the_clips_it_can() -> None:
    words = lecture(["One two three four five six seven eight nine ten eleven twelve."] * 4, pause=0.2)
    assert len(chosen(material(words), Wish(4, 5, 40))) == 4


def test_clips_begin_and_end_with_sentences_and_keep_a_little_around_them() -> None:
    words = lecture([PLAIN] * 20)
    starts = {s.start for s in sentences(words, 60)}
    ends = {s.end for s in sentences(words, 60)}
    found = chosen(material(words), Wish(3, 10, 20))
    assert len(found) == 3
    for clip in found:
        assert min(abs(clip.start + LEAD - start) for start in starts) < 0.002
        assert min(abs(clip.end - TAIL - end) for end in ends) < 0.002


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.5), st.floats(0.05, 0.8)), min_size=1, max_size=30),
    st.floats(0, 40),
    st.floats(0, 40),
)
def test_no_edge_ever_lies_within_a_word(gaps: list[tuple[float, float]], one: float, other: float) -> None:
    words, at = [], 0.0
    for gap, length in gaps:
        words += talk("word", round(at + gap, 3), round(length, 3))
        at = words[-1].end
    start, end = edges(words, min(one, other, at), min(max(one, other), at + 1), at + 1)
    assert [w for w in words if w.start < start < w.end or w.start < end < w.end] == []


def test_what_is_kept_around_words_is_at_most_half_the_pause_beside_them() -> None:
    words = lecture(["One two.", "Three four."], pause=0.4)
    first = edges(words, words[0].start, words[1].end, 60)
    second = edges(words, words[2].start, words[3].end, 60)
    assert first[1] == second[0] == pytest.approx((words[1].end + words[2].start) / 2, abs=0.002)


def test_the_sum_of_scores_decides_not_the_single_best() -> None:
    long, left, right = (Candidate(*c, {}) for c in ((0.0, 30.0, 0.9), (0.0, 14.0, 0.6), (15.0, 30.0, 0.6)))
    assert [(c.start, c.end) for c in choose([long, left, right], Wish(2, 5, 60))] == [(0.0, 14.0), (15.0, 30.0)]
    assert [(c.start, c.end) for c in choose([long, left, right], Wish(1, 5, 60))] == [(0.0, 30.0)]


@pytest.mark.parametrize(
    ("special", "feature"),
    [
        ("Why does nobody ever ask what this is for?", "questions"),
        ("We sold 4000 of them for 12 dollars each.", "numbers"),
    ],
)
def test_a_sentence_that_stands_out_is_chosen_and_why_is_said(special: str, feature: str) -> None:
    texts = [PLAIN] * 20
    texts[10:12] = [special] * 2
    (clip,) = chosen(material(lecture(texts)), Wish(1, 5, 12))
    at = lecture(texts)[10 * len(PLAIN.split())].start  # both together last 8.2 s
    assert min(clip.end, at + 8.2) - max(clip.start, at) > 3
    assert clip.features[feature] == 1.0
    assert WHY[feature] in why(clip.features).lower()


def test_louder_and_faster_speech_scores_higher_than_the_same_words_said_flatly() -> None:
    slow, fast = talk(PLAIN * 1, 0.5, 0.5), talk(PLAIN, 20.0, 0.25)
    levels = tuple(-30.0 if n < 36 else -18.0 for n in range(80))
    found = candidates(material([*slow, *fast], 40.0, levels=levels), Wish(1, 2, 10))
    flat, strong = found[0].features, found[-1].features
    assert flat["rate"] == pytest.approx(0.0, abs=0.2)
    assert strong["rate"] == 1.0
    assert flat["energy"] < strong["energy"]


def test_what_the_recording_keeps_coming_back_to_weighs_more_than_what_is_said_once() -> None:
    texts = ["Here are words about weather once told nicely."]
    texts += ["The lighthouse keeper lights the lighthouse."] * 3
    texts += ["Some other remark follows here without purpose."]
    found = {c.text: c.features["topic"] for c in candidates(material(lecture(texts)), Wish(1, 2, 4))}
    assert found[texts[1]] > found[texts[0]]


def test_without_speech_the_stretch_in_which_most_moves_is_chosen() -> None:
    motion = tuple(20.0 if 150 <= n < 200 else 0.5 for n in range(300))
    (clip,) = chosen(material((), 60.0, shots=Shots((30.0,), motion)), Wish(1, 10, 10))
    assert (clip.start, clip.end) == (30.0, 40.0)
    assert "much moves in the picture" in why(clip.features).lower()


def test_without_sound_nothing_is_said_to_be_loud_and_without_words_nobody_to_speak() -> None:
    moves, still = (tuple(20.0 * (n < 50) * moving for n in range(300)) for moving in (1, 0))
    loud = tuple(-10.0 if n < 20 else -60.0 for n in range(120))
    told = [
        why(chosen(material((), 60.0, shots=Shots((), motion), levels=levels), Wish(1, 10, 10))[0].features)
        for motion, levels in ((moves, (FLOOR,) * 120), (still, loud), (still, (FLOOR,) * 120))
    ]
    assert told == [
        "Much moves in the picture.",
        "It is among what is loudest.",
        "Nothing in the recording stands out.",
    ]


def test_speech_too_short_for_a_clip_is_kept_whole_in_one_that_is_chosen_by_what_moves() -> None:
    words = lecture(["Look at this."])
    found = chosen(material(words, 30.0), Wish(2, 10, 12))
    assert found
    for clip in found:
        assert not [w for w in words if w.start < clip.start < w.end or w.start < clip.end < w.end]


def test_a_sentence_longer_than_a_clip_is_cut_at_a_comma() -> None:
    text = "one two three four five six seven eight, nine ten eleven twelve thirteen fourteen fifteen sixteen"
    parts = sentences(talk(text, 0.0, 1.0), 13.0)
    assert [(p.text[-6:], p.whole) for p in parts] == [("eight,", False), ("ixteen", True)]


def test_another_choosers_answers_are_held_to_the_material() -> None:
    words = lecture([PLAIN] * 20)
    within = words[25]
    answers = [
        Choice((within.start + within.end) / 2, within.start + 12, 0.9, why="because", title="Mine"),
        Choice(within.start + 5, within.start + 20, 0.8),  # overlaps
        Choice(0.0, 200.0, 1.0),  # too long
        Choice(60.0, 61.0, 1.0),  # too short
    ]
    (kept,) = settle(answers, material(words), Wish(3, 8, 20))
    assert (kept.title, kept.why) == ("Mine", "because")
    assert kept.start <= within.start


def test_the_shortlist_holds_the_best_and_no_two_that_are_mostly_the_same() -> None:
    found = candidates(material(lecture([PLAIN] * 40)), Wish(3, 10, 20))
    short = shortlist(found, 10)
    assert len(short) == 10
    assert max(c.score for c in found) == max(c.score for c in short)
    for a, b in itertools.combinations(short, 2):
        assert min(a.end, b.end) - max(a.start, b.start) < min(a.end - a.start, b.end - b.start) / 2


def test_the_same_material_gives_the_same_clips() -> None:
    made, wish = material(lecture([PLAIN, "Is it 5?", "No."] * 15)), Wish(4, 6, 15)
    assert chosen(made, wish) == chosen(made, wish)


def test_weights_sum_to_one_so_that_scores_lie_between_nought_and_one() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert sum(WEIGHTS_UNSPOKEN.values()) == pytest.approx(1.0)


def test_titles_hooks_and_descriptions_are_in_the_speakers_words_and_short_enough() -> None:
    words = lecture(["We talk about lighthouses.", "Who keeps a lighthouse?", PLAIN])
    clip = written(Choice(0, 10, 0.5, features={"topic": 0.9}), words, 0)
    assert clip.hook == "Who keeps a lighthouse?"
    assert clip.title in " ".join(w.punctuated_word for w in words)
    assert set(clip.descriptions) == set(LIMITS)
    assert all(0 < len(text) <= LIMITS[name] for name, text in clip.descriptions.items())
    assert "#" in clip.descriptions["tiktok"]


def test_a_clip_without_words_has_a_title_and_no_hook() -> None:
    clip = written(Choice(0, 10, 0.5, features={"motion": 0.9}), (), 2)
    assert (clip.title, clip.hook) == ("Clip 3", "")


def test_a_text_is_shortened_between_words() -> None:
    assert shortened("a rather long sentence, indeed", 25) == "a rather long sentence…"
    assert shortened("short", 25) == "short"
