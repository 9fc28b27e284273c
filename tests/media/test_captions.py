"""Captions: every word, on time, in every style, whatever the text holds."""

from __future__ import annotations

import itertools
import re

import pysubs2
import pytest

from callsheet.media.captions import STYLES, Name, groups, hook_height, overlay
from callsheet.media.transcript import Word
from tests.media.spoken import talk, word

SIZE = (1080, 1920)
NAMES = sorted(STYLES)


def spoken() -> list[Word]:
    return [*talk("Ask not what your country can do for you.", 0.4), *talk("Ask what you can do.", 5.0)]


def lines(words: list[Word], style: Name | None, hook: str = "", seconds: float = 10.0) -> pysubs2.SSAFile:
    return pysubs2.SSAFile.from_string(overlay(words, style, hook, SIZE, seconds))


@pytest.mark.parametrize("style", NAMES)
def test_every_word_is_seen_within_a_fifth_of_a_second_of_its_time(style: Name) -> None:
    file = lines(spoken(), style)
    for one in spoken():
        shown = [e for e in file if one.punctuated_word.lower() in e.plaintext.lower()]
        assert any(e.start / 1000 <= one.start + 0.2 and e.end / 1000 >= one.end - 0.2 for e in shown), one


@pytest.mark.parametrize("style", ["highlight", "boxed"])
def test_the_word_that_is_spoken_is_marked_while_it_is(style: Name) -> None:
    file = lines(spoken(), style)
    for one in spoken():
        (event, *_) = [e for e in file if abs(e.start / 1000 - one.start) <= 0.01]
        marked = re.search(r"\{\\c&H\w+&\}(.*?)\{", event.text)
        assert marked is not None
        assert marked[1] == one.punctuated_word


def test_karaoke_fills_each_word_at_its_time() -> None:
    seen: list[str] = []
    for event in lines(spoken(), "karaoke"):
        at = event.start / 1000
        filled = []
        for kind, hundredths, text in re.findall(r"\{\\(kf?)(\d+)\}([^{]*)", event.text):
            if kind == "kf":
                filled.append((text, at))
            at += int(hundredths) / 100
        expected = {w.punctuated_word: w.start for w in spoken() if event.start <= w.start * 1000 < event.end}
        assert {text: round(when, 1) for text, when in filled} == {t: round(s, 1) for t, s in expected.items()}
        seen += expected
    assert seen == [w.punctuated_word for w in spoken()]


@pytest.mark.parametrize("style", NAMES)
def test_captions_follow_each_other_and_end_with_the_clip(style: Name) -> None:
    events = sorted(lines(spoken(), style, seconds=6.7), key=lambda e: e.start)
    assert all(a.end <= b.start + 10 for a, b in itertools.pairwise(events))
    assert events[-1].end <= 6700


@pytest.mark.parametrize("style", NAMES)
def test_what_is_spoken_can_never_be_a_command(style: Name) -> None:
    evil = [word(r" {\pos(0,0)}", 0.0, 0.5), word(r" a\Nb", 0.5, 1.0), word(" {", 1.0, 1.2)]
    text = overlay(evil, style, r"{\fs900}Hook\n", SIZE, 3.0)
    events = [line.split(",", 9)[9] for line in text.splitlines() if line.startswith("Dialogue:")]
    tags = {tag for line in events for tag in re.findall(r"\{([^}]*)\}", line)}
    assert all(re.fullmatch(r"\\c&H[0-9A-F]{6}&|\\kf?\d+", tag) for tag in tags)
    assert not any(bad in line.lower() for line in events for bad in (r"\pos", r"\fs", r"a\nb", r"hook\n"))


def test_the_hook_stands_over_the_first_seconds_only_and_alone_if_there_are_no_captions() -> None:
    (hook,) = lines(spoken(), None, "What can you do for your country today?")
    assert (hook.start, hook.end, hook.style) == (0, 3500, "Hook")
    assert all(len(line) <= 28 for line in hook.text.split("\\N"))
    assert max(e.end for e in lines([], None, "Short", seconds=2.0)) == 2000


def test_the_hook_stands_where_it_is_put_and_says_how_high_it_is() -> None:
    text = overlay([], None, "What can you do for your country today?", SIZE, 5.0, hook_top=0.4)
    assert f",{round(0.4 * SIZE[1])},1" in next(line for line in text.splitlines() if line.startswith("Style: Hook"))
    short, long = (hook_height(hook, SIZE) for hook in ("Short", "What can you do for your country today?"))
    assert 0.03 < short == long / 2 < 0.06


def test_words_are_grouped_by_sentence_and_pause() -> None:
    words = [*talk("One two. Three four", 0.0), *talk("five", 5.0)]
    made = groups(words, STYLES["classic"], 10.0)
    assert [[w.word for w in g.words] for g in made] == [["one", "two"], ["three", "four"], ["five"]]


@pytest.mark.parametrize("style", NAMES)
def test_a_group_fits_into_two_lines(style: Name) -> None:
    made = groups(talk("extraordinarily well " * 10, each=0.3), STYLES[style], 10.0)
    texts = [" ".join(w.punctuated_word for w in g.words) for g in made]
    assert " ".join(texts) == ("extraordinarily well " * 10).strip()
    assert max(map(len, texts)) <= 2 * STYLES[style].line


def test_writing_without_spaces_is_shown_without_spaces() -> None:
    words = [word("你", 0.0, 0.3), word("好", 0.3, 0.6)]
    assert "你好" in lines(words, "classic")[0].plaintext


LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。"


def across(text: str) -> int:
    """The letters in the widest part of a caption that no space breaks; full-width ones are two."""
    return max(sum(2 if c > "\u2e80" else 1 for c in part) for part in re.split(r"[ \n]", text))


@pytest.mark.parametrize("style", NAMES)
def test_what_has_no_space_to_be_broken_at_is_broken_where_a_line_is_full(style: Name) -> None:
    characters = [word(c, n * 0.2, n * 0.2 + 0.2) for n, c in enumerate(JAPANESE)]
    room = 16 if style == "pop" else 34
    for words in (talk(f"Die {LONG} tagt", each=2.0), characters):
        for event in lines(words, style, seconds=20.0):
            assert across(event.plaintext) <= room
    shown = "".join(event.plaintext for event in lines(characters, "classic", seconds=20.0))
    assert shown.replace("\n", "") == JAPANESE
    assert any(LONG.lower() == e.plaintext.replace("\n", "").lower() for e in lines(talk(LONG), style))


def test_a_word_that_fits_stays_whole() -> None:
    words: dict[Name, str] = {"pop": "EXTRAORDINARILY", "highlight": "Straßenverkehrsordnung"}
    for style, text in words.items():
        assert [event.plaintext for event in lines(talk(text), style)] == [text]


@pytest.mark.parametrize("hook", [LONG, JAPANESE, f"See https://example.org/{'path/' * 12}"])
def test_a_hook_without_spaces_is_broken_into_lines_and_as_high_as_they_are(hook: str) -> None:
    (event,) = lines([], None, hook)
    rows = event.plaintext.split("\n")
    assert max(map(across, rows)) <= 28
    assert event.plaintext.replace("\n", "") == hook
    assert hook_height(hook, SIZE) == pytest.approx(len(rows) * hook_height("Short", SIZE))
    assert not any(row[0] in "。、" for row in rows)
