"""Recognition by Deepgram: `POST /v1/listen`, which answers with words, speakers and a summary.

Source: "Pre-recorded audio" in Deepgram's API reference (developers.deepgram.com). The sound is the body, read from the
file as it is sent. Only what succeeds is billed, so that an answer of 5xx may be asked for again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec

from callsheet.media.engines.base import (
    MAX_ANSWER,
    AtOnce,
    Heard,
    Wanted,
    decoded,
    flag,
    in_order,
    space_for,
    word,
)
from callsheet.media.providers.base import Order, ProviderSettings, Ref
from callsheet.media.providers.web import Web

MINUTE, DIARIZATION, SUMMARY = 0.0043, 0.0017, 0.01  # US dollars a minute
MAX_SPEAKERS = 1000


class _Word(msgspec.Struct):
    word: str
    start: float
    end: float
    confidence: float = 0.0
    punctuated_word: str | None = None
    speaker: Annotated[int, msgspec.Meta(ge=0, lt=MAX_SPEAKERS)] | None = None


class _Alternative(msgspec.Struct):
    words: tuple[_Word, ...] = ()


class _Channel(msgspec.Struct):
    alternatives: tuple[_Alternative, ...]
    detected_language: str | None = None
    language_confidence: float | None = None


class _Summary(msgspec.Struct):
    short: str | None = None


class _Results(msgspec.Struct):
    channels: Annotated[tuple[_Channel, ...], msgspec.Meta(min_length=1)]
    summary: _Summary | None = None


class _Answer(msgspec.Struct):
    results: _Results


class Deepgram(AtOnce):
    """The adapter. The argument `options` is the query."""

    name = "deepgram"

    def __init__(self, settings: ProviderSettings) -> None:
        self._base = settings.deepgram_url.rstrip("/")
        key = {"Authorization": f"Token {settings.deepgram_key}", "Content-Type": "audio/wav"}
        self._web = Web("Deepgram", key, settings.recognition_seconds, free=lambda _: True)

    def submit(self, order: Order, target: Path) -> Ref:
        """Have it recognised; the answer lies at `target` when this returns."""
        url = f"{self._base}/v1/listen?{urlencode(order.arguments)}"
        (sound, _media_type) = order.files["audio"]
        raw = self._web.call("POST", url, content=sound, once=True, limit=MAX_ANSWER).body
        _check(raw)
        target.write_bytes(raw)
        return Ref(self.name, "", done=True)


def order(wanted: Wanted, settings: ProviderSettings, _folder: Path) -> Order:
    """What is ordered."""
    options: dict[str, Any] = {
        "model": settings.deepgram_model,
        "smart_format": "true",
        "punctuate": "true",
        "utterances": "true",
        "paragraphs": "true",
        "diarize": flag(wanted.diarize),
    }
    options |= {"language": wanted.language} if wanted.language else {"detect_language": "true"}
    options |= {"summarize": "v2"} if wanted.summarize else {}
    return Order(settings.deepgram_model, options, {"audio": (wanted.wav, "audio/wav")})


def cost(wanted: Wanted, _settings: ProviderSettings) -> float:
    """US dollars, by the length of the recording."""
    rate = MINUTE + DIARIZATION * wanted.diarize + SUMMARY * wanted.summarize
    return round(wanted.seconds / 60 * rate, 6)


def heard(raw: bytes, wanted: Wanted) -> Heard:
    """What an answer says. ProviderError: provider_bad_answer."""
    results = decoded(raw, _Answer).results
    channel = results.channels[0]
    language = wanted.language or channel.detected_language
    space = space_for(language)
    told = channel.alternatives[0].words if channel.alternatives else ()
    words = [
        word(space + (w.punctuated_word or w.word), w.start, w.end, w.confidence, speaker=_speaker(w, wanted))
        for w in told
    ]
    certain = channel.language_confidence if channel.detected_language else 1.0
    summary = (results.summary.short if results.summary else None) or ""
    return Heard(in_order(words, wanted.seconds), language, min(1.0, max(0.0, certain or 0.0)), summary.strip())


def _speaker(told: _Word, wanted: Wanted) -> int | None:
    return told.speaker if wanted.diarize else None


def _check(raw: bytes) -> None:
    """ProviderError: provider_bad_answer, before an answer that is none is kept as what was bought."""
    for channel in decoded(raw, _Answer).results.channels:
        for alternative in channel.alternatives:
            for w in alternative.words:
                word(w.word, w.start, w.end, w.confidence)
