"""Speech to words with faster-whisper, on the stretches of speech only: a window at a time, several at once.

A decoder of one sentence keeps one core busy, whatever it is given; so each core hears a window of its own. The words
come out in their order all the same: who is ahead waits.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import numpy as np

from callsheet.media.audio import RATE, read_wav, wav_seconds
from callsheet.media.errors import MediaError
from callsheet.media.speech import Region
from callsheet.media.transcript import Utterance, UtteranceBuilder, make_word
from callsheet.media.windows import Piece, length, to_source, trim, widen, window_seconds, windows

WINDOW_SECONDS = 300.0
MARGIN_SECONDS = 0.5
MAX_WORKERS = 4
WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # as faster-whisper's tokenizer has it
SEED = 1  # the fallback at a higher temperature draws at random, but begins alike each time


class Options(msgspec.Struct, frozen=True):
    """`language`: ISO 639-1, or None to detect it from the first 30 s of speech. `hint`: words to expect.

    `translate`: into English. `temperature`: where decoding begins; it rises by 0.2 where the outcome is poor.

    `threads`: cores to use. `window_seconds`: the most speech that each of them holds at once. `margin_seconds`: how
    much of the pause around a stretch is heard with it.
    """

    language: str | None = None
    beam_size: int = 1
    hint: str | None = None
    translate: bool = False
    temperature: float = 0.0
    compute_type: str = "int8"
    threads: int = 1
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
    check_language(options.language)
    listener = _Listener(regions, on_utterance, options.language, 1.0 if options.language else 0.0)
    wide = widen(regions, wav_seconds(wav), options.margin_seconds)
    total = sum(region.end - region.start for region in wide)
    workers = max(1, min(options.threads, MAX_WORKERS))
    pieces = windows(wav, wide, window_seconds(total, options.window_seconds, workers))
    done = 0.0
    with ThreadPoolExecutor(workers, "hearing") as pool:
        for hearing, ahead in _in_order(pool, pieces, workers, lambda w: _Hearing(wav, w, model, options, listener)):
            for words, until in hearing.segments():
                for word in words:
                    listener.hear(word, hearing.window)
                on_progress(min(1.0, (done + until + sum(other.until for other in ahead)) / total))
            done += hearing.until
    listener.close()
    return Recognition(tuple(listener.utterances), listener.language, listener.probability)


class _Hearing:
    """One window, heard by a thread of its own. `until`: how many seconds of it are done."""

    def __init__(self, wav: Path, window: Sequence[Piece], model: Path, options: Options, listener: _Listener) -> None:
        self.window = window
        self.until = 0.0
        self._segments: SimpleQueue[tuple[list[Heard], float] | Exception | None] = SimpleQueue()
        self._wav, self._options = wav, options
        self._loaded = load(model, options.compute_type, options.threads)
        _seed()
        self._begun = self._begin(listener)

    def _begin(self, listener: _Listener) -> tuple[Any, Any]:
        """What the library makes of the window: nothing is decoded yet but, in the first one, the language."""
        segments, info = self._loaded.transcribe(
            np.concatenate([read_wav(self._wav, piece.start, piece.end) for piece in self.window]),
            language=listener.language,
            task="translate" if self._options.translate else "transcribe",
            temperature=_rising(self._options.temperature),
            beam_size=self._options.beam_size,
            initial_prompt=self._options.hint,
            word_timestamps=True,
            condition_on_previous_text=False,  # or a mistake repeats itself through the rest of the window
        )
        if listener.language is None:
            listener.language, listener.probability = info.language, float(info.language_probability)
        return segments, info

    def run(self) -> None:
        """Hear it all."""
        segments, info = self._begun
        seconds = length(self.window) / RATE
        joined = info.language in WITHOUT_SPACES and not self._options.translate
        try:
            for segment in segments:
                parts = [Heard(w.word, float(w.start), float(w.end), float(w.probability)) for w in segment.words or ()]
                words = parts if joined else list(whole_words(parts))
                self._tell(words, min(float(segment.end), seconds))
            self._tell([], seconds)
            self._segments.put(None)
        except Exception as error:  # noqa: BLE001  (raised again by whoever listens)
            self._segments.put(error)

    def segments(self) -> Iterator[tuple[list[Heard], float]]:
        """Words, and how many seconds are done with them, as they are heard."""
        while (segment := self._segments.get()) is not None:
            if isinstance(segment, Exception):
                raise segment
            yield segment

    def _tell(self, words: list[Heard], until: float) -> None:
        self.until = until
        self._segments.put((words, until))


def _rising(temperature: float) -> list[float]:
    """The temperatures to try in turn, until the outcome is good enough (whisper's own steps)."""
    return [t / 10 for t in range(round(temperature * 10), 11, 2)]


def _in_order(
    pool: ThreadPoolExecutor,
    pieces: Iterator[list[Piece]],
    workers: int,
    hearing_of: Callable[[Sequence[Piece]], _Hearing],
) -> Iterator[tuple[_Hearing, Sequence[_Hearing]]]:
    """Each window in its turn, and those that are heard ahead of it: few, since each holds its sound and its words."""
    ahead: deque[_Hearing] = deque()
    for window in pieces:
        ahead.append(hearing_of(window))
        pool.submit(ahead[-1].run)
        if len(ahead) >= 2 * workers - 1:
            yield ahead.popleft(), ahead
    while ahead:
        yield ahead.popleft(), ahead


@functools.lru_cache(maxsize=2)
def load(model: Path, compute_type: str = "int8", threads: int = 1) -> Any:
    """The model in a folder, for so many threads, loaded once in the life of the process.

    MediaError: model_unavailable.
    """
    from faster_whisper import WhisperModel  # noqa: PLC0415  (a second that few processes need)

    workers = max(1, min(threads, MAX_WORKERS))
    kind = {"device": "cpu", "compute_type": compute_type, "cpu_threads": threads // workers, "num_workers": workers}
    try:
        return WhisperModel(str(model), **kind)
    except (RuntimeError, ValueError, OSError) as error:
        raise MediaError("model_unavailable", f"The speech model '{model.name}' does not load.") from error


def check_language(language: str | None) -> None:
    """Refuse a language that no model knows, without loading one. MediaError: language_unsupported."""
    if language is None:
        return
    from faster_whisper.tokenizer import _LANGUAGE_CODES  # noqa: PLC0415  (as above)

    if language not in _LANGUAGE_CODES:
        raise MediaError("language_unsupported", f"The language '{language}' is not one that can be recognised.")


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
