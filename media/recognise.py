"""Speech to words with faster-whisper, a window at a time, on the stretches of speech only.

A stretch is taken with half a second of what surrounds it: cut to its very edges, one in three test cuts lost or bent
the word next to the cut. A window is up to five minutes of whole stretches; the pauses in between are left out. So
memory does not grow with the length of the recording, and a seam lies in a pause. A single stretch longer than that is
cut at the quietest tenth of a second in the last fifth of the window, so that no word is cut. Times are mapped back to
the source stretch by stretch.
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

from callsheet.media.audio import RATE, Samples, read_wav, wav_seconds
from callsheet.media.errors import MediaError
from callsheet.media.speech import Region
from callsheet.media.transcript import Utterance, UtteranceBuilder, make_word

WINDOW_SECONDS = 300.0
MARGIN_SECONDS = 0.5
LEAST_SHARED = 0.08  # seconds
SEARCH_SHARE = 0.2  # a forced cut is looked for in this last share of the window
QUIET_SECONDS = 0.1
WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # as faster-whisper's tokenizer has it
SEED = 1  # the fallback at a higher temperature draws at random: the same file gives the same words


class Options(msgspec.Struct, frozen=True):
    """`language`: ISO 639-1, or None to detect it from the first 30 s of speech. `hint`: words to expect.

    `cpu_threads`: 0 for as many as the library thinks right. `window_seconds`: how much speech is held at once.
    `margin_seconds`: how much of the pause around a stretch is heard with it.
    """

    language: str | None = None
    beam_size: int = 1
    hint: str | None = None
    compute_type: str = "int8"
    cpu_threads: int = 0
    window_seconds: float = WINDOW_SECONDS
    margin_seconds: float = MARGIN_SECONDS


class Recognition(msgspec.Struct, frozen=True):
    """What was heard. `language` is None if nothing was."""

    utterances: tuple[Utterance, ...]
    language: str | None
    language_probability: float


class Heard(msgspec.Struct):
    """A word as the recogniser gives it: text with its leading space, seconds within the window, probability."""

    text: str
    start: float
    end: float
    probability: float


class Piece(msgspec.Struct, frozen=True):
    """Samples start..end of the source."""

    start: int
    end: int


class _Listener(msgspec.Struct):
    """What goes from one window to the next."""

    regions: Sequence[Region]
    on_utterance: Callable[[Utterance], None]
    language: str | None
    probability: float
    builder: UtteranceBuilder = msgspec.field(default_factory=UtteranceBuilder)
    utterances: list[Utterance] = []
    last_end: float = 0.0

    def hear(self, piece: Heard, window: Sequence[Piece]) -> None:
        """Take a word with its times in the window."""
        start, end = trim(self.regions, *to_source(window, piece.start, piece.end))
        word = make_word(piece.text, max(start, min(self.last_end, end)), end, piece.probability)
        if word is not None:
            self.last_end = word.end
            self._keep(self.builder.push(word))

    def close(self) -> None:
        """No more words: give out the last utterance."""
        self._keep(self.builder.close())

    def _keep(self, utterance: Utterance | None) -> None:
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
    listener = _Listener(regions, on_utterance, options.language, 1.0 if options.language else 0.0)
    wide = widen(regions, wav_seconds(wav), options.margin_seconds)
    total = sum(region.end - region.start for region in wide)
    done = 0.0
    for window in windows(wav, wide, options.window_seconds):
        for heard_until in _recognise_window(wav, window, model, options, listener):
            on_progress(min(1.0, (done + heard_until) / total))
        done += _length(window) / RATE
        on_progress(min(1.0, done / total))
    listener.close()
    return Recognition(tuple(listener.utterances), listener.language, listener.probability)


@functools.lru_cache(maxsize=2)
def load(model: Path, compute_type: str = "int8", cpu_threads: int = 0) -> Any:
    """The model in a folder, loaded once in the life of the process. MediaError: model_unavailable."""
    from faster_whisper import WhisperModel  # noqa: PLC0415  (a second that few processes need)

    try:
        return WhisperModel(str(model), device="cpu", compute_type=compute_type, cpu_threads=cpu_threads)
    except (RuntimeError, ValueError, OSError) as error:
        raise MediaError("model_unavailable", f"The speech model '{model.name}' does not load.") from error


def check_language(language: str | None) -> None:
    """Refuse a language that no model knows, without loading one. MediaError: language_unsupported."""
    if language is None:
        return
    from faster_whisper.tokenizer import _LANGUAGE_CODES  # noqa: PLC0415  (as above)

    if language not in _LANGUAGE_CODES:
        raise MediaError("language_unsupported", f"The language '{language}' is not one that can be recognised.")


def _recognise_window(
    wav: Path, window: Sequence[Piece], model: Path, options: Options, listener: _Listener
) -> Iterator[float]:
    """Recognise a window; yields how many seconds of it are done, as it goes."""
    loaded = load(model, options.compute_type, options.cpu_threads)
    _seed()
    segments, info = loaded.transcribe(
        np.concatenate([read_wav(wav, piece.start, piece.end) for piece in window]),
        language=listener.language,
        beam_size=options.beam_size,
        initial_prompt=options.hint,
        word_timestamps=True,
        condition_on_previous_text=False,  # or a mistake repeats itself through the rest of the window
    )
    if listener.language is None:
        listener.language, listener.probability = info.language, float(info.language_probability)
    joined = info.language in WITHOUT_SPACES
    for segment in segments:
        words = [Heard(w.word, float(w.start), float(w.end), float(w.probability)) for w in segment.words or ()]
        for word in words if joined else whole_words(words):
            listener.hear(word, window)
        yield min(float(segment.end), _length(window) / RATE)


def _seed() -> None:
    import ctranslate2  # noqa: PLC0415  (as above)

    ctranslate2.set_random_seed(SEED)


def whole_words(parts: Sequence[Heard]) -> Iterator[Heard]:
    """Join what the recogniser splits at a hyphen (" ill", "-disposed"): a word begins with a space."""
    word: Heard | None = None
    for part in parts:
        if word is not None and not part.text[:1].isspace():
            word.text, word.end = word.text + part.text, part.end
            word.probability = min(word.probability, part.probability)
            continue
        if word is not None:
            yield word
        word = part
    if word is not None:
        yield word


def to_source(window: Sequence[Piece], start: float, end: float) -> tuple[float, float]:
    """Times (seconds) within a window as times of the source.

    A word belongs to the stretch that its middle is in, and does not reach out of it.
    """
    ends = list(itertools.accumulate(piece.end - piece.start for piece in window))
    at = min(bisect.bisect_right(ends, (start + end) / 2 * RATE), len(window) - 1)
    piece = window[at]
    offset = piece.start - (ends[at] - (piece.end - piece.start))
    first, last = (min(max(time * RATE + offset, piece.start), piece.end) / RATE for time in (start, end))
    return first, last


def widen(regions: Sequence[Region], duration: float, margin: float = MARGIN_SECONDS) -> list[Region]:
    """The stretches with `margin` seconds more on both sides; those that then touch are one."""
    wide: list[Region] = []
    for region in regions:
        start, end = max(0.0, region.start - margin), min(duration, region.end + margin)
        if wide and start <= wide[-1].end:
            start = wide.pop().start
        wide.append(Region(start, end))
    return wide


def trim(regions: Sequence[Region], start: float, end: float) -> tuple[float, float]:
    """A word's times without the pause that recognisers stretch the words beside it over.

    It is kept to the stretch of speech that it shares most with, if that is enough to be more than chance.
    """
    near = bisect.bisect_right(regions, start, key=lambda region: region.end)
    best, most = None, LEAST_SHARED
    for region in itertools.takewhile(lambda region: region.start < end, itertools.islice(regions, near, None)):
        shared = min(end, region.end) - max(start, region.start)
        if shared >= most:
            best, most = region, shared
    return (start, end) if best is None else (max(start, best.start), min(end, best.end))


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
