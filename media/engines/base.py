"""Recognition by somebody else's API: what is asked, what is heard, and what all such engines have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from callsheet.media.providers.base import Order, ProviderError, Ref, Status
from callsheet.media.providers.web import bad_answer
from callsheet.media.transcript import Word, make_word

MAX_ANSWER = 64 << 20  # bytes; four hours of speech take about 10 MB with every word described twice
UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")  # languages written without spaces between words
T = TypeVar("T")


class Wanted(msgspec.Struct, frozen=True):
    """What is to be recognised: 16 kHz mono sound and its length in seconds, and what was asked for."""

    wav: Path
    seconds: float
    language: str | None = None
    translate: bool = False
    hint: str | None = None
    temperature: float = 0.0
    diarize: bool = False
    summarize: bool = False


class Heard(msgspec.Struct, frozen=True):
    """What an engine has heard, its words in order of time."""

    words: tuple[Word, ...]
    language: str | None
    language_probability: float
    summary: str = ""


class AtOnce:
    """The part of a Provider whose answer is the result: nothing to ask for later, and nothing to cancel."""

    name = ""

    def prepare(self, order: Order) -> Order:
        """There is nothing to send ahead."""
        return order

    def poll(self, ref: Ref) -> Status:
        """It came with the answer."""
        return Status("done" if ref.done else "running")

    def fetch(self, _ref: Ref, _order: Order, _target: Path) -> None:
        """What came with an answer can be had from nowhere else."""
        raise ProviderError("provider_failed", f"{self.name} keeps no answers.")

    def cancel(self, _ref: Ref) -> bool:
        """A call cannot be taken back."""
        return False


def decoded(raw: bytes, shape: type[T]) -> T:
    """An answer as its type. ProviderError: provider_bad_answer."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad_answer(str(error)[:200]) from None


def in_order(found: Iterable[Word | None], seconds: float) -> tuple[Word, ...]:
    """Words by time, none of them beyond the end of the recording."""
    inside = [
        msgspec.structs.replace(word, start=min(word.start, seconds), end=min(word.end, seconds))
        for word in found
        if word is not None
    ]
    return tuple(sorted(inside, key=lambda word: (word.start, word.end)))


def word(text: str, start: float, end: float, confidence: float, *, speaker: int | None = None) -> Word | None:
    """A word of an answer. ProviderError: provider_bad_answer for times that are none."""
    if not (math.isfinite(start) and math.isfinite(end) and math.isfinite(confidence)) or start < -1.0:
        raise bad_answer("it has words at impossible times")
    return make_word(text, start, end, confidence, speaker)


def space_for(language: str | None) -> str:
    """What stands before a word in this language."""
    return "" if (language or "").partition("-")[0] in UNSPACED else " "


def flag(value: bool) -> str:
    """A boolean as a query has it."""
    return "true" if value else "false"
