"""Speech to words with faster-whisper, a window at a time, on the stretches of speech only.

A window is up to five minutes of speech: whole stretches, with the pauses between them left out, so memory does not grow with the length of the
recording and a seam lies in a pause. A single stretch longer than that is cut at the quietest tenth of a second of the
last minute of the window, so that no word is cut. Times are mapped back to the source stretch by stretch.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from callsheet.media.audio import RATE, Samples, read_wav
from callsheet.media.errors import MediaError
from callsheet.media.speech import Region
from callsheet.media.transcript import Utterance, UtteranceBuilder, Word, make_word

WINDOW_SECONDS = 300.0
SEARCH_SHARE = 0.2  # a forced cut is looked for in this last share of the window
QUIET_SECONDS = 0.1
SEED = 1  # the fallback at a higher temperature draws at random: the same file gives the same words


class Options(msgspec.Struct, frozen=True):
    """`language`: ISO 639-1, or None to detect it from the first 30 s of speech. `hint`: words to expect, such as names.
    `cpu_threads`: 0 for as many as the library thinks right."""

    language: str | None = None
    beam_size: int = 1
    hint: str | None = None
    compute_type: str = "int8"
    cpu_threads: int = 0
    window_seconds: float = WINDOW_SECONDS


class Recognition(msgspec.Struct, frozen=True):
    """What was heard. `language` is None if nothing was."""

    utterances: tuple[Utterance, ...]
    language: str | None
    language_probability: float


class Piece(msgspec.Struct, frozen=True):
    """Samples start..end of the source."""

    start: int
    end: int


class _Listener(msgspec.Struct):
    """What goes from one window to the next."""

    builder: UtteranceBuilder
    utterances: list[Utterance]
    on_utterance: Callable[[Utterance], None]
    language: str | None = None
    probability: float = 0.0
    last_end: float = 0.0

    def hear(self, word: Word) -> None:
        self.last_end = word.end
        self.keep(self.builder.push(word))

    def keep(self, utterance: Utterance | None) -> None:
        if utterance is not None:
            self.utterances.append(utterance)
            self.on_utterance(utterance)


def recognise(
    wav: Path,
    regions: Sequence[Region],
    model: Path,
    options: Options | None = None,
    *,
    on_progress: Callable[[float], None] = lambda _: None,
    on_utterance: Callable[[Utterance], None] = lambda _: None,
) -> Recognition:
    """Recognise the speech in a 16 kHz mono WAV with the model in a folder.

    `on_progress` gets the share (0..1) of the speech that is done, `on_utterance` each utterance when it is complete.
    MediaError: language_unsupported, model_unavailable (the folder holds no model that loads).
    """
    options = options or Options()
    listener = _Listener(UtteranceBuilder(), [], on_utterance, options.language, 1.0 if options.language else 0.0)
    total = sum(region.end - region.start for region in regions) * RATE
    done = 0
    for window in windows(wav, regions, options.window_seconds):
        _recognise_window(wav, window, model, options, listener, lambda n, d=done: on_progress((d + n) / total))
        done += _length(window)
        on_progress(min(1.0, done / total))
    listener.keep(listener.builder.close())
    return Recognition(tuple(listener.utterances), listener.language if regions else None, listener.probability)


@functools.lru_cache(maxsize=2)
def load(model: Path, compute_type: str = "int8", cpu_threads: int = 0) -> Any:
    """The model in a folder, loaded once in the life of the process. MediaError: model_unavailable."""
    from faster_whisper import WhisperModel  # here, because it takes a second that not every stage needs

    try:
        return WhisperModel(str(model), device="cpu", compute_type=compute_type, cpu_threads=cpu_threads)
    except (RuntimeError, ValueError, OSError) as error:
        raise MediaError("model_unavailable", f"The speech model '{model.name}' does not load.") from error


def check_language(language: str | None) -> None:
    """Refuse a language that no model knows, without loading one. MediaError: language_unsupported."""
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    if language is not None and language not in _LANGUAGE_CODES:
        raise MediaError("language_unsupported", f"The language '{language}' is not one that can be recognised.")


def _recognise_window(
    wav: Path,
    window: Sequence[Piece],
    model: Path,
    options: Options,
    listener: _Listener,
    on_samples: Callable[[int], None],
) -> None:
    import ctranslate2

    ctranslate2.set_random_seed(SEED)
    audio = np.concatenate([read_wav(wav, piece.start, piece.end) for piece in window])
    segments, info = load(model, options.compute_type, options.cpu_threads).transcribe(
        audio,
        language=listener.language,
        beam_size=options.beam_size,
        initial_prompt=options.hint,
        word_timestamps=True,
        condition_on_previous_text=False,  # or a mistake repeats itself through the rest of the window
    )
    if listener.language is None:
        listener.language, listener.probability = info.language, float(info.language_probability)
    for segment in segments:
        for heard in segment.words or ():
            start, end = to_source(window, heard.start, heard.end)
            start = max(start, min(listener.last_end, end))
            word = make_word(heard.word, start, end, float(heard.probability))
            if word is not None:
                listener.hear(word)
        on_samples(min(_length(window), int(segment.end * RATE)))


def to_source(window: Sequence[Piece], start: float, end: float) -> tuple[float, float]:
    """Times (seconds) within a window as times of the source. A word belongs to the stretch that its middle is in, and
    does not reach out of it."""
    ends = list(itertools.accumulate(piece.end - piece.start for piece in window))
    at = min(bisect.bisect_right(ends, (start + end) / 2 * RATE), len(window) - 1)
    piece = window[at]
    offset = piece.start - (ends[at] - (piece.end - piece.start))
    first, last = (min(max(time * RATE + offset, piece.start), piece.end) / RATE for time in (start, end))
    return first, last


def windows(wav: Path, regions: Sequence[Region], seconds: float = WINDOW_SECONDS) -> Iterator[list[Piece]]:
    """Pack the stretches of speech into windows of at most `seconds`, cutting only those that are longer themselves."""
    longest = int(seconds * RATE)
    window: list[Piece] = []
    for piece in itertools.chain.from_iterable(_cut(wav, region, longest) for region in regions):
        if window and _length(window) + piece.end - piece.start > longest:
            yield window
            window = []
        window.append(piece)
    if window:
        yield window


def _length(window: Sequence[Piece]) -> int:
    return sum(piece.end - piece.start for piece in window)


def _cut(wav: Path, region: Region, longest: int) -> Iterator[Piece]:
    start, end = round(region.start * RATE), round(region.end * RATE)
    while end - start > longest:
        latest = start + longest
        earliest = latest - int(longest * SEARCH_SHARE)
        cut = earliest + _quietest(read_wav(wav, earliest, latest))
        yield Piece(start, cut)
        start = cut
    if end > start:
        yield Piece(start, end)


def _quietest(samples: Samples) -> int:
    """The middle of the tenth of a second with the least energy."""
    width = min(int(QUIET_SECONDS * RATE), len(samples))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return int(np.argmin(energy[width:] - energy[:-width])) + width // 2
