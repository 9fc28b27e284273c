"""A transcript with parts of its text put right by a person, on the times of the words that were recognised.

Utterances keep their ids, so that corrections by id can be made again and again; one whose text is empty is left out.
In languages written without spaces the characters are aligned, and each is a word then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from callsheet.media.corrected import corrected, opcodes
from callsheet.media.errors import MediaError
from callsheet.media.transcript import Transcript, Utterance, Word, build, join_words, make_word, mean

ROOM = 2.0  # seconds around an utterance that words put in at its ends may take, where nobody else speaks


def correct(transcript: Transcript, texts: Mapping[int, str]) -> Transcript:
    """The transcript with these texts in place of those utterances' own. MediaError: unknown_utterance."""
    known = {utterance.id for utterance in transcript.utterances}
    if unknown := sorted(set(texts) - known):
        raise MediaError("unknown_utterance", f"There is no utterance {unknown[0]} in this transcript.")
    found: list[Utterance] = []
    for at, utterance in enumerate(transcript.utterances):
        text = texts.get(utterance.id)
        words = utterance.words if text is None else _put_right(transcript, at, text)
        if words:
            found.append(utterance if text is None else _with_words(utterance, words))
    return build(
        found,
        language=transcript.language,
        language_probability=transcript.language_probability,
        duration=transcript.duration,
        model=transcript.model,
        processing_time=transcript.processing_time,
        cost=transcript.cost,
        summary=transcript.summary,
        translated=transcript.translated,
    )


def split(transcript: Transcript, text: str) -> dict[int, str]:
    """The whole text as texts of the utterances that it differs in: each word goes where the word was heard that it
    matches or replaces, one put in between to the utterance before it."""
    joined = is_joined(transcript.words)
    heard = [(key, n) for n, u in enumerate(transcript.utterances) for key in _keys(join_words(u.words), joined=joined)]
    wanted = _parts(text, joined=joined)
    if not heard:
        raise MediaError("nothing_to_correct", "Nobody speaks in this file: there are no times to put a text on.")
    owners = _owners([key for key, _ in heard], [_key(part) for part in wanted], [owner for _, owner in heard])
    texts = [""] * len(transcript.utterances)
    for part, owner in zip(wanted, owners, strict=True):
        texts[owner] += part if joined else f" {part}"
    pairs = zip(transcript.utterances, texts, strict=True)
    return {u.id: new.strip() for u, new in pairs if " ".join(new.split()) != u.text}


def _owners(heard: Sequence[str], wanted: Sequence[str], of: Sequence[int]) -> list[int]:
    """For each wanted word the utterance it belongs to."""
    owners: list[int] = []
    for kind, i1, i2, j1, j2 in opcodes(heard, wanted):
        if kind == "insert":
            owners += [of[max(i1 - 1, 0)]] * (j2 - j1)
        elif kind != "delete":
            owners += [of[i1 + (j - j1) * (i2 - i1) // (j2 - j1)] for j in range(j1, j2)]
    return owners


def _put_right(transcript: Transcript, at: int, text: str) -> tuple[Word, ...]:
    utterance, others = transcript.utterances[at], transcript.utterances
    begin = max(others[at - 1].end if at else 0.0, utterance.start - ROOM)
    end = min(others[at + 1].start if at + 1 < len(others) else transcript.duration, utterance.end + ROOM)
    begin, end = min(begin, utterance.start), max(end, utterance.end)
    made = retold(utterance.words, text, begin, end, joined=is_joined(transcript.words))
    return tuple(replace(word, speaker=utterance.speaker) for word in made)


def retold(words: Sequence[Word], text: str, begin: float, end: float, *, joined: bool) -> list[Word]:
    """These words with another text, which lies between `begin` and `end`. `joined`: it is written without spaces."""
    heard = _characters(words) if joined else words
    made = corrected(heard, " ".join(_parts(text, joined=joined)), end, begin)
    kept = {(word.word, word.start, word.end): word.confidence for word in heard}
    return [
        replace(
            word,
            confidence=kept.get((word.word, word.start, word.end), 1.0),  # whoever corrects a word is sure of it
            space_before=not joined,
        )
        for word in _apart(made)
    ]


def _with_words(utterance: Utterance, words: tuple[Word, ...]) -> Utterance:
    return replace(
        utterance,
        start=words[0].start,
        end=max(word.end for word in words),
        text=join_words(words),
        confidence=mean(word.confidence for word in words),
        words=words,
    )


def _apart(words: Sequence[Word]) -> list[Word]:
    """Words put in where there was no time at all share that of the word that follows."""
    found = list(words)
    first = next((n for n, word in enumerate(found) if word.end > word.start), None)
    if first:
        start, step = found[first].start, (found[first].end - found[first].start) / (first + 1)
        for n in range(first + 1):
            times = round(start + n * step, 3), round(start + (n + 1) * step, 3)
            found[n] = replace(found[n], start=times[0], end=times[1])
    return found


def is_joined(words: Sequence[Word]) -> bool:
    """Whether the language writes words without spaces."""
    return sum(not word.space_before for word in words) > len(words) / 2


def _parts(text: str, *, joined: bool) -> list[str]:
    """What is aligned of a text: words, or characters; none of them empty."""
    parts = [character for character in text if not character.isspace()] if joined else text.split()
    return [part for part in parts if make_word(part, 0.0, 0.0, 1.0) is not None]


def _keys(text: str, *, joined: bool) -> list[str]:
    return [_key(part) for part in _parts(text, joined=joined)]


def _key(part: str) -> str:
    made = make_word(part, 0.0, 0.0, 1.0)
    return made.word if made else ""


def _characters(words: Sequence[Word]) -> list[Word]:
    """The words as characters that share their time."""
    found: list[Word] = []
    for word in words:
        text = "".join(word.punctuated_word.split())
        each = (word.end - word.start) / max(1, len(text))
        times = [word.start + n * each for n in range(len(text) + 1)]
        made = [make_word(c, times[n], times[n + 1], word.confidence, word.speaker) for n, c in enumerate(text)]
        found += [character for character in made if character is not None]
    return found
