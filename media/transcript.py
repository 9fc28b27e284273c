"""The transcript: its shape, which is the same whatever engine made it, and how words become utterances and paragraphs.

An *utterance* ends where the speaker changes, at a pause of 0.8 s, after the end of a sentence that is followed by a
pause of 0.3 s, or, past 20 s, at the end of any sentence, and past 30 s at any word. A *paragraph* is utterances of one
speaker: a new one begins at a pause of 2 s, and after the utterance with which it reached 60 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

UTTERANCE_PAUSE, SENTENCE_PAUSE = 0.8, 0.3
UTTERANCE_SOFT, UTTERANCE_HARD = 20.0, 30.0
PARAGRAPH_PAUSE, PARAGRAPH_SECONDS = 2.0, 60.0
SENTENCE_END = re.compile(r"[.!?…。！？؟।]+[\"'”’»)\]]*\Z")  # noqa: RUF001  (other scripts' full stops are meant)
TITLES = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st."})  # their full stop ends nothing: a name follows
# What XML 1.0 cannot hold, and what no font shows: recognisers of other makes have been seen to give both.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """A word: bare and lower case, and as it is written; times in seconds of the source; confidence 0..1.

    `space_before` is false where the language writes it joined to the word before (Chinese, Japanese, Thai ...).
    """

    word: str
    punctuated_word: str
    start: float
    end: float
    confidence: float
    speaker: int | None = None
    space_before: bool = True


class Utterance(msgspec.Struct, frozen=True):
    """A stretch of speech by one speaker (None: nobody told speakers apart)."""

    id: int
    speaker: int | None
    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...]


class Speaker(msgspec.Struct, frozen=True):
    """Somebody who speaks: id from 0, label from 1, seconds spoken."""

    id: int
    label: str
    total_duration: float
    utterance_count: int


class Paragraph(msgspec.Struct, frozen=True):
    """Utterances (by id) that read as one paragraph."""

    id: int
    speaker: int | None
    start: float
    end: float
    text: str
    utterances: tuple[int, ...]


class Confidence(msgspec.Struct, frozen=True):
    """Over the words; 0 where there are none."""

    mean: float
    min: float


class Chapter(msgspec.Struct, frozen=True):
    """A part of the recording with a title; seconds, the edges are those of utterances."""

    title: str
    start: float
    end: float


class Transcript(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that was heard. `duration` and `processing_time` in seconds, `cost` in US dollars (0 when local).

    `summary` and `chapters` only where they were asked for, and somebody can write them. `translated`: `language` is
    what was spoken, and the text is English.
    """

    language: str | None
    language_probability: float
    duration: float
    word_count: int
    confidence: Confidence
    model: str
    processing_time: float
    cost: float
    text: str
    words: tuple[Word, ...]
    utterances: tuple[Utterance, ...]
    speakers: tuple[Speaker, ...]
    paragraphs: tuple[Paragraph, ...]
    summary: str = ""
    chapters: tuple[Chapter, ...] = ()
    translated: bool = False


def make_word(raw: str, start: float, end: float, confidence: float, speaker: int | None = None) -> Word | None:
    """A word from what a recogniser gives: text that begins with a space where a space belongs. None if it is empty."""
    text = UNPRINTABLE.sub("", raw)
    written = " ".join(text.split())
    if not written:
        return None
    bare = re.sub(r"^\W+|\W+$", "", written.lower()) or written
    start = round(max(0.0, float(start)), 3)  # float: recognisers give numpy's
    return Word(
        word=bare,
        punctuated_word=written,
        start=start,
        end=round(max(start, float(end)), 3),
        confidence=round(min(1.0, max(0.0, confidence)), 4),
        speaker=speaker,
        space_before=text[:1].isspace(),
    )


def join_words(words: Iterable[Word]) -> str:
    """The words as text."""
    return "".join((" " if word.space_before else "") + word.punctuated_word for word in words).strip()


def ends_sentence(word: Word) -> bool:
    """Whether it is written with the end of a sentence."""
    text = word.punctuated_word
    return bool(SENTENCE_END.search(text)) and text.lstrip("\"'“(").lower() not in TITLES


def utterances_of(words: Iterable[Word]) -> list[Utterance]:
    """All the utterances of these words, which are in order."""
    builder = UtteranceBuilder()
    found = [builder.push(word) for word in words]
    return [utterance for utterance in (*found, builder.close()) if utterance is not None]


class UtteranceBuilder:
    """Takes words in order and gives back each utterance as soon as it is complete."""

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._count = 0

    def push(self, word: Word) -> Utterance | None:
        """Take the next word; give back the utterance that it does not belong to any more, if there is one."""
        done = self._close() if self._words and self._breaks_before(word) else None
        self._words.append(word)
        return done

    def close(self) -> Utterance | None:
        """The last utterance, if words are left."""
        return self._close() if self._words else None

    def _breaks_before(self, word: Word) -> bool:
        first, last = self._words[0], self._words[-1]
        pause, length = word.start - last.end, last.end - first.start
        if word.speaker != last.speaker or pause >= UTTERANCE_PAUSE or length >= UTTERANCE_HARD:
            return True
        return ends_sentence(last) and (pause >= SENTENCE_PAUSE or length >= UTTERANCE_SOFT)

    def _close(self) -> Utterance:
        words, self._words = tuple(self._words), []
        self._count += 1
        return Utterance(
            id=self._count,
            speaker=words[0].speaker,
            start=words[0].start,
            end=max(word.end for word in words),
            text=join_words(words),
            confidence=mean(word.confidence for word in words),
            words=words,
        )


def build(
    utterances: Sequence[Utterance],
    *,
    language: str | None,
    language_probability: float,
    duration: float,
    model: str,
    processing_time: float,
    cost: float = 0.0,
    summary: str = "",
    translated: bool = False,
) -> Transcript:
    """The whole transcript from its utterances, which are in order."""
    words = tuple(word for utterance in utterances for word in utterance.words)
    confidence = Confidence(mean(w.confidence for w in words), min((w.confidence for w in words), default=0.0))
    found = paragraphs(utterances)
    return Transcript(
        language=language,
        language_probability=round(language_probability, 4),
        duration=round(duration, 3),
        word_count=len(words),
        confidence=confidence,
        model=model,
        processing_time=round(processing_time, 3),
        cost=cost,
        text="\n\n".join(paragraph.text for paragraph in found),
        words=words,
        utterances=tuple(utterances),
        speakers=speakers(utterances),
        paragraphs=found,
        summary=summary,
        translated=translated,
    )


def speakers(utterances: Iterable[Utterance]) -> tuple[Speaker, ...]:
    """Who speaks, by id; nobody where speakers were not told apart."""
    totals: dict[int, tuple[float, int]] = {}
    for u in utterances:
        if u.speaker is not None:
            seconds, count = totals.get(u.speaker, (0.0, 0))
            totals[u.speaker] = (seconds + u.end - u.start, count + 1)
    return tuple(Speaker(k, speaker_label(k), round(s, 3), n) for k, (s, n) in sorted(totals.items()))


def speaker_label(speaker: int) -> str:
    """What a speaker is called: ids count from 0, people from 1."""
    return f"Speaker {speaker + 1}"


def paragraphs(utterances: Sequence[Utterance]) -> tuple[Paragraph, ...]:
    """Utterances grouped for reading."""
    groups: list[list[Utterance]] = []
    for utterance in utterances:
        if not groups or _new_paragraph(groups[-1], utterance):
            groups.append([])
        groups[-1].append(utterance)
    return tuple(_paragraph(number, group) for number, group in enumerate(groups, 1))


def _new_paragraph(group: list[Utterance], utterance: Utterance) -> bool:
    first, last = group[0], group[-1]
    pause = utterance.start - last.end >= PARAGRAPH_PAUSE
    return utterance.speaker != first.speaker or pause or last.end - first.start >= PARAGRAPH_SECONDS


def _paragraph(number: int, group: list[Utterance]) -> Paragraph:
    words = [word for utterance in group for word in utterance.words]
    ids = tuple(utterance.id for utterance in group)
    return Paragraph(number, group[0].speaker, group[0].start, group[-1].end, join_words(words), ids)


def mean(values: Iterable[float]) -> float:
    """Of numbers in 0..1; 0 where there are none."""
    numbers = list(values)
    return round(sum(numbers) / len(numbers), 4) if numbers else 0.0
