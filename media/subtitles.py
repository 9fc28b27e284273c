"""Subtitles: cues that can be read, as SubRip and WebVTT.

The numbers, near what broadcasters publish for English (BBC Subtitle Guidelines; Netflix Timed Text Style Guide):
42 characters a line, two lines; a cue lasts 1 to 7 seconds and at most 21 characters a second are read, where the words
around leave the time for it; a cue held for reading ends 40 ms before the next. A cue never spans two utterances. It
ends after a sentence, at a pause of 0.7 s, or when it is full, and then rather after a comma in its second half than in
the middle of a phrase.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

import msgspec
import pysubs2

from callsheet.media.transcript import Transcript, Utterance, Word, ends_sentence, join_words, speaker_label

LINE = 42
SHORTEST_MS, LONGEST_MS, GAP_MS = 1000, 7000, 40
CHARACTERS_A_SECOND = 21
PAUSE_SECONDS = 0.7
COMMAS = ",;:，、；："  # noqa: RUF001  (those of Chinese and Japanese are meant)
SENTENCE_CHARACTERS = 20  # a shorter sentence may share its cue with the next


class Cue(msgspec.Struct, frozen=True):
    """What is shown from `start_ms` to `end_ms`: one or two lines; `speaker` only where speakers were told apart."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: int | None = None


def srt(transcript: Transcript) -> str:
    """SubRip. A cue names its speaker (`Speaker 1: `) where the speaker changes, if speakers were told apart."""
    return _write(((cue, "\n".join(cue.lines)) for cue in cues(transcript, labels=True)), "srt")


def vtt(transcript: Transcript) -> str:
    """WebVTT (W3C). Each cue carries its speaker as a voice span (`<v Speaker 1>`), where speakers were told apart."""
    return _write(((cue, _vtt_text(cue)) for cue in cues(transcript)), "vtt")


def _vtt_text(cue: Cue) -> str:
    text = html.escape("\n".join(cue.lines), quote=False)
    return text if cue.speaker is None else f"<v {speaker_label(cue.speaker)}>{text}"


def _write(cues_and_texts: Iterable[tuple[Cue, str]], kind: str) -> str:
    file = pysubs2.SSAFile()
    for cue, text in cues_and_texts:
        line = text.replace("\\", "/").replace("\n", "\\N")  # a backslash begins an escape in pysubs2's own notation
        file.append(pysubs2.SSAEvent(start=cue.start_ms, end=cue.end_ms, text=line))
    return file.to_string(kind, keep_ssa_tags=True)  # or it would take braces in the text for tags and drop them


def cues(transcript: Transcript, *, labels: bool = False) -> list[Cue]:
    """The cues in order: times rise and do not overlap. With `labels` the text names a speaker who begins."""
    drafts: list[Cue] = []
    before: int | None = None
    for utterance in transcript.utterances:
        label = ""
        if labels and utterance.speaker is not None and utterance.speaker != before:
            label = speaker_label(utterance.speaker) + ":"
        before = utterance.speaker
        drafts += _utterance_cues(utterance, label)
    return _timed(drafts)


def _utterance_cues(utterance: Utterance, label: str) -> Iterator[Cue]:
    for group in _groups(_with_label(list(_slices(utterance.words)), label)):
        start, end = group[0].start, max(word.end for word in group)
        yield Cue(round(start * 1000), round(end * 1000), wrap(group) or ("",), utterance.speaker)


def _with_label(words: list[Word], label: str) -> list[Word]:
    if not label or not words:
        return words
    start = words[0].start
    return [Word(label, label, start, start, 1.0), msgspec.structs.replace(words[0], space_before=True), *words[1:]]


def _slices(words: Iterable[Word]) -> Iterator[Word]:
    """The words, with those that are longer than a line cut into parts that take their share of its time."""
    for word in words:
        text = word.punctuated_word
        if len(text) <= LINE:
            yield word
            continue
        second = (word.end - word.start) / len(text)
        for at in range(0, len(text), LINE):
            part = text[at : at + LINE]
            start = word.start + at * second
            glue = word.space_before if at == 0 else False
            yield Word(part, part, start, start + len(part) * second, word.confidence, word.speaker, glue)


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and (word.start - group[-1].end >= PAUSE_SECONDS or _complete(group)):
            yield group
            group = []
        if group and not _fits([*group, word]):
            at = _comma(group)
            yield group[:at]
            group = group[at:]
            if group and not _fits([*group, word]):
                yield group
                group = []
        group.append(word)
    if group:
        yield group


def _complete(group: list[Word]) -> bool:
    return ends_sentence(group[-1]) and len(join_words(group)) >= SENTENCE_CHARACTERS


def _fits(group: list[Word]) -> bool:
    return group[-1].end - group[0].start <= LONGEST_MS / 1000 and wrap(group) is not None


def _comma(group: list[Word]) -> int:
    """How many words to show when the cue is full: up to the last comma in its second half, else all."""
    for at in range(len(group) - 1, len(group) // 2, -1):
        if group[at - 1].punctuated_word[-1:] in COMMAS:
            return at
    return len(group)


def wrap(words: list[Word]) -> tuple[str, ...] | None:
    """One line if it fits, else the two that are nearest in length; None if two lines do not hold the words."""
    whole = join_words(words)
    if len(whole) <= LINE:
        return (whole,)
    pairs = ((join_words(words[:at]), join_words(words[at:])) for at in range(1, len(words)))
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=None)


def _timed(drafts: list[Cue]) -> list[Cue]:
    """Give each cue the time that reading takes, up to the next cue; put in order what a recogniser did not."""
    timed: list[Cue] = []
    free = 0
    for number, cue in enumerate(drafts):
        start = max(cue.start_ms, free)
        following = drafts[number + 1].start_ms - GAP_MS if number + 1 < len(drafts) else start + LONGEST_MS
        wanted = max(SHORTEST_MS, round(sum(map(len, cue.lines)) / CHARACTERS_A_SECOND * 1000))
        reading = min(start + min(wanted, LONGEST_MS), following)
        end = max(min(cue.end_ms, following + GAP_MS), reading, start + 1)
        timed.append(Cue(start, end, cue.lines, cue.speaker))
        free = end
    return timed
