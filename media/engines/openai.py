"""Recognition by OpenAI, or any endpoint that speaks its `/audio/transcriptions` and `/audio/translations`.

Source: "Create transcription" in OpenAI's API reference, `verbose_json` with the times of words and segments. Words
come bare there, so that the text, which has the punctuation, is put on their times. An endpoint that tells no words has
those of each segment spread over it. Confidence is that of the segment; 0 where the endpoint tells none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from callsheet.media import ffmpeg
from callsheet.media.corrected import corrected
from callsheet.media.engines.base import MAX_ANSWER, AtOnce, Heard, Wanted, decoded, in_order, space_for, word
from callsheet.media.errors import MediaError
from callsheet.media.languages import code_of
from callsheet.media.providers.base import Order, ProviderSettings, Ref
from callsheet.media.providers.web import Web, bad_answer, nothing_done
from callsheet.media.transcript import Word

MOST_BYTES = 25 << 20  # of a file, by OpenAI's documentation; at 32 kbit/s that is about 109 minutes
NO_END = 1e9  # seconds


class _Word(msgspec.Struct):
    word: str
    start: float
    end: float


class _Segment(msgspec.Struct):
    text: str
    start: float
    end: float
    avg_logprob: float | None = None


class _Answer(msgspec.Struct):
    text: str
    language: str | None = None
    segments: tuple[_Segment, ...] | None = None
    words: tuple[_Word, ...] | None = None


class OpenAI(AtOnce):
    """The adapter. The arguments are `path`, and the fields of the form."""

    name = "openai"

    def __init__(self, settings: ProviderSettings) -> None:
        self._base = settings.openai_url.rstrip("/")
        key = {"Authorization": f"Bearer {settings.openai_key}"} if settings.openai_key else {}
        self._web = Web("The OpenAI endpoint", key, settings.recognition_seconds, free=nothing_done)

    def prepare(self, order: Order) -> Order:
        """The sound as a small MP3, which every such endpoint reads. MediaError: engine_file_too_large."""
        (source, _media_type), (small, small_type) = order.files["source"], order.files["file"]
        options = ["-ac", "1", "-c:a", "libmp3lame", "-b:a", "32k", "-map_metadata", "-1"]
        ffmpeg.run([ffmpeg.Input(source)], options, small)
        if small.stat().st_size > MOST_BYTES:
            raise MediaError("engine_file_too_large", "The recording is too long for the engine `openai` (25 MB).")
        return msgspec.structs.replace(order, files={"file": (small, small_type)})

    def submit(self, order: Order, target: Path) -> Ref:
        """Have it recognised; the answer lies at `target` when this returns."""
        form = dict(order.arguments)
        url = f"{self._base}/audio/{form.pop('path')}"
        sound, _media_type = order.files["file"]
        raw = self._web.call("POST", url, content=sound, form=form, once=True, limit=MAX_ANSWER).body
        _checked(raw)
        target.write_bytes(raw)
        return Ref(self.name, "", done=True)


def order(wanted: Wanted, settings: ProviderSettings, folder: Path) -> Order:
    """What is ordered. The copy to send is made in `folder`."""
    form: dict[str, Any] = {
        "path": "translations" if wanted.translate else "transcriptions",
        "model": settings.openai_model,
        "response_format": "verbose_json",
        "temperature": str(wanted.temperature),
    }
    form |= {"prompt": wanted.hint} if wanted.hint else {}
    if not wanted.translate:
        form |= {"timestamp_granularities[]": ["word", "segment"]}
        form |= {"language": wanted.language} if wanted.language else {}
    files = {"source": (wanted.wav, "audio/wav"), "file": (folder / "speech.mp3", "audio/mpeg")}
    return Order(settings.openai_model, form, files)


def cost(wanted: Wanted, settings: ProviderSettings) -> float:
    """US dollars, by the length of the recording and the price that is set."""
    return round(wanted.seconds / 60 * settings.openai_minute_price, 6)


def heard(raw: bytes, wanted: Wanted) -> Heard:
    """What an answer says. ProviderError: provider_bad_answer."""
    answer = _checked(raw)
    told = wanted.language or (code_of(answer.language) if answer.language else None)
    written = "en" if wanted.translate else told
    words = in_order(_words(answer, space_for(written)), wanted.seconds)
    return Heard(words, told, 1.0 if told else 0.0)


def _checked(raw: bytes) -> _Answer:
    """ProviderError: provider_bad_answer, which is raised before such an answer is kept as what was bought."""
    answer = decoded(raw, _Answer)
    timed: list[_Word | _Segment] = [*(answer.words or ()), *(answer.segments or ())]
    for one in timed:
        word("-", one.start, one.end, 1.0)
    if answer.text.strip() and not answer.words and not answer.segments:
        raise bad_answer("it has a text and no times; the model must know `verbose_json`")
    return answer


def _words(answer: _Answer, space: str) -> Iterator[Word | None]:
    bare = [word(space + w.word.strip(), w.start, w.end, _confidence(answer, w.start)) for w in answer.words or ()]
    known = in_order(bare, NO_END)
    if known and not space:
        yield from known
    elif known:
        for w in corrected(known, answer.text, max(w.end for w in known)):
            yield msgspec.structs.replace(w, confidence=_confidence(answer, w.start))
    else:
        for segment in answer.segments or ():
            parts = segment.text.split() if space else list(segment.text)
            yield from _spread([space + part for part in parts], segment)


def _spread(parts: list[str], segment: _Segment) -> Iterator[Word | None]:
    """Over the segment, by letters."""
    total, done = sum(map(len, parts)) or 1, 0
    length = max(0.0, segment.end - segment.start)
    for part in parts:
        start, done = segment.start + length * done / total, done + len(part)
        yield word(part, start, segment.start + length * done / total, _likely(segment))


def _confidence(answer: _Answer, at: float) -> float:
    return next((_likely(s) for s in answer.segments or () if s.start <= at < s.end), 0.0)


def _likely(segment: _Segment) -> float:
    return 0.0 if segment.avg_logprob is None else round(math.exp(min(0.0, segment.avg_logprob)), 4)
