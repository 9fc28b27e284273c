"""Transcripts made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

from callsheet.media.transcript import Transcript, UtteranceBuilder, Word, build, make_word


def word(raw: str, start: float, end: float, confidence: float = 0.9, speaker: int | None = None) -> Word:
    made = make_word(raw, start, end, confidence, speaker)
    assert made is not None
    return made


def talk(text: str, start: float = 0.0, each: float = 0.3, speaker: int | None = None) -> list[Word]:
    """The words of a text, spoken evenly: each word takes `each` seconds and the next follows at once."""
    return [
        word(f" {part}", start + number * each, start + (number + 1) * each, speaker=speaker)
        for number, part in enumerate(text.split())
    ]


def transcript(words: Sequence[Word], duration: float | None = None, language: str | None = "en") -> Transcript:
    builder = UtteranceBuilder()
    pushed = [builder.push(word) for word in words]
    utterances = [utterance for utterance in [*pushed, builder.close()] if utterance is not None]
    length = duration if duration is not None else max((w.end for w in words), default=0.0) + 1.0
    return build(
        utterances,
        language=language,
        language_probability=1.0,
        duration=length,
        model="base",
        processing_time=1.5,
    )
