"""A corrected text put on the times of the words that were heard."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from callsheet.media.transcript import Word, make_word

SMALL = 400  # words: stretches up to here are compared with all words, longer ones without the commonest


def opcodes(heard: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """As difflib has them. The commonest words of a long text anchor nothing at first (comparing each with each would
    take minutes); in the stretches that differ then they do."""
    found: list[tuple[str, int, int, int, int]] = []
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, heard, wanted, autojunk=True).get_opcodes():
        if kind == "replace" and max(i2 - i1, j2 - j1) <= SMALL:
            inner = difflib.SequenceMatcher(None, heard[i1:i2], wanted[j1:j2], autojunk=False).get_opcodes()
            found += [(k, i1 + a, i1 + b, j1 + c, j1 + d) for k, a, b, c, d in inner]
        else:
            found.append((kind, i1, i2, j1, j2))
    return found


def corrected(heard: Sequence[Word], text: str, seconds: float, begin: float = 0.0) -> list[Word]:
    """The words of `text` with times: a word that was heard keeps its own; those in the place of others share the time
    of what they replace; those put in between share the pause, or else half of the word before.

    They lie between `begin` and `seconds`, such as the ends of a clip.
    """
    wanted = [made for part in text.split() if (made := make_word(f" {part}", 0.0, 0.0, 1.0)) is not None]
    found: list[Word] = []
    for kind, i1, i2, j1, j2 in opcodes([w.word for w in heard], [w.word for w in wanted]):
        if kind == "equal" or (kind == "replace" and i2 - i1 == j2 - j1):
            found += [_timed(new, old.start, old.end) for old, new in zip(heard[i1:i2], wanted[j1:j2], strict=True)]
        elif j2 > j1:
            start, end = (heard[i1].start, heard[i2 - 1].end) if i2 > i1 else _room(heard, i1, found, begin, seconds)
            found += _spread(wanted[j1:j2], start, end)
    return found


def _room(heard: Sequence[Word], at: int, found: list[Word], begin: float, seconds: float) -> tuple[float, float]:
    """The time for words put in before `heard[at]`; taken from the word before where there is no pause."""
    start = heard[at - 1].end if at else begin
    end = heard[at].start if at < len(heard) else min(seconds, start + 2.0)
    if end - start < 0.1 and found:
        last = found.pop()
        middle = (last.start + last.end) / 2
        found.append(_timed(last, last.start, middle))
        start = middle
    return start, max(start, end)


def _spread(words: Sequence[Word], start: float, end: float) -> Iterator[Word]:
    """Evenly by letters."""
    total = sum(len(word.punctuated_word) for word in words)
    done = 0
    for word in words:
        before, done = done, done + len(word.punctuated_word)
        yield _timed(word, start + (end - start) * before / total, start + (end - start) * done / total)


def _timed(word: Word, start: float, end: float) -> Word:
    return Word(word.word, word.punctuated_word, round(start, 3), round(end, 3), word.confidence)
