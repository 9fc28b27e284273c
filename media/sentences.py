"""Sentences of a transcript, and edges that never lie within a word."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import msgspec

from callsheet.media.transcript import Word, ends_sentence, join_words

LEAD, TAIL = 0.35, 0.45  # seconds before the first and after the last word, at most
PAUSE = 1.2  # seconds without a word that end a sentence, whatever is written
CLAUSE_ENDS = ",;:，、；："  # noqa: RUF001  (those of Chinese and Japanese are meant)


class Sentence(msgspec.Struct, frozen=True):
    """A sentence: words `first` to `last` (indices, inclusive), seconds. `whole`: it ends as sentences do, or at a
    pause; else it is a part of one that is too long for a clip."""

    first: int
    last: int
    start: float
    end: float
    text: str
    whole: bool


def sentences(words: Sequence[Word], longest: float) -> list[Sentence]:
    """The words as sentences; one that is longer than `longest` seconds is cut at commas, or else at any word."""
    made: list[Sentence] = []
    first = 0
    for number, word in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else None
        if following is None or ends_sentence(word) or following.start - word.end >= PAUSE:
            parts = list(_parts(words, first, number, longest * 0.8))
            for at, (begin, end) in enumerate(parts):
                made.append(_sentence(words, begin, end, whole=at == len(parts) - 1))
            first = number + 1
    return made


def _parts(words: Sequence[Word], first: int, last: int, longest: float) -> Iterator[tuple[int, int]]:
    while words[last].end - words[first].start > longest and last > first:
        fitting = [n for n in range(first, last) if words[n].end - words[first].start <= longest] or [first]
        commas = [n for n in fitting[len(fitting) // 2 :] if words[n].punctuated_word[-1:] in CLAUSE_ENDS]
        cut = commas[-1] if commas else fitting[-1]
        yield first, cut
        first = cut + 1
    yield first, last


def _sentence(words: Sequence[Word], first: int, last: int, *, whole: bool) -> Sentence:
    part = words[first : last + 1]
    return Sentence(first, last, part[0].start, max(word.end for word in part), join_words(part), whole)


def edges(words: Sequence[Word], start: float, end: float, duration: float) -> tuple[float, float]:
    """The edges of a clip of start..end: what lies in a word goes out to the word's own edge, and beyond the first and
    the last word that are heard up to 0.35 s and 0.45 s are kept, but at most half of the pause to the next word, so
    that neighbouring clips do not overlap.

    A stretch that begins or ends away from any word stays as it is. Times rise in `words`.
    """
    first = bisect.bisect_left(words, start, key=_start)
    if first > 0 and words[first - 1].end > start:
        first -= 1
    last = bisect.bisect_left(words, end, key=_start) - 1
    if first > last:  # no word within
        return round(max(0.0, start), 3), round(min(duration, end), 3)
    lower = (words[first - 1].end + words[first].start) / 2 if first > 0 else 0.0
    upper = (words[last].end + words[last + 1].start) / 2 if last + 1 < len(words) else duration
    begin = max(words[first].start - LEAD, lower, 0.0)
    finish = min(words[last].end + TAIL, upper, duration)
    begin = begin if abs(words[first].start - start) <= LEAD + 0.01 or words[first].start < start else max(start, lower)
    finish = finish if end - words[last].end <= TAIL + 0.01 else min(end, upper)
    return round(min(begin, words[first].start), 3), round(max(finish, words[last].end), 3)


def _start(word: Word) -> float:
    return word.start
