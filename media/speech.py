"""Where people speak: Silero VAD v6 (the network that faster-whisper carries), streamed over a file of any length.

The network reads windows of 512 samples (32 ms), each with the last 64 of the one before, and carries a recurrent
state. faster-whisper's own function takes the whole recording at once; here state and context are carried from block to
block instead, so the probabilities are those of one pass over the whole file: there are no seams. What then turns
probabilities into stretches of speech is a small state machine that sees one window at a time, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from callsheet.media.audio import RATE, Samples, wav_blocks, wav_seconds

WINDOW, CONTEXT, STATE = 512, 64, 128
BLOCK_WINDOWS = 1875  # one minute a call: more is not faster


class SpeechOptions(msgspec.Struct, frozen=True):
    """A window with `threshold` or more is speech; below `threshold - hysteresis` it is not; between, as before."""

    threshold: float = 0.5
    hysteresis: float = 0.15
    min_speech: float = 0.25
    min_silence: float = 0.5
    pad: float = 0.1


class Region(msgspec.Struct, frozen=True):
    """A stretch of speech, in seconds of the source."""

    start: float
    end: float


class Speech(msgspec.Struct, frozen=True):
    """Where speech is, in order and without overlap, and how much of the `duration` (seconds) that makes."""

    duration: float
    regions: tuple[Region, ...]

    @property
    def seconds(self) -> float:
        """How much speech there is."""
        return sum(region.end - region.start for region in self.regions)

    @property
    def ratio(self) -> float:
        """The share of the recording that is speech."""
        return self.seconds / self.duration if self.duration > 0 else 0.0


def find_speech(
    wav: Path, options: SpeechOptions | None = None, progress: Callable[[float], None] | None = None
) -> Speech:
    """The speech in a 16 kHz mono WAV. No speech is a result, not an error: no regions."""
    duration = wav_seconds(wav)
    windows = probabilities(wav_blocks(wav, WINDOW * BLOCK_WINDOWS))
    return Speech(duration, tuple(regions(_reporting(windows, duration, progress), duration, options)))


def _reporting(windows: Iterator[float], duration: float, progress: Callable[[float], None] | None) -> Iterator[float]:
    total = max(1.0, duration * RATE / WINDOW)
    for number, probability in enumerate(windows):
        if progress and number % BLOCK_WINDOWS == 0:
            progress(min(1.0, number / total))
        yield probability


@functools.cache
def _session() -> Any:
    from faster_whisper.vad import get_vad_model  # noqa: PLC0415  (a second that few processes need)

    return get_vad_model().session


def probabilities(blocks: Iterable[Samples]) -> Iterator[float]:
    """The probability of speech in each 512-sample window. All blocks but the last hold whole windows."""
    state: npt.NDArray[np.float32] = np.zeros((1, 1, STATE), np.float32)
    cell = state
    before: Samples = np.zeros(CONTEXT, np.float32)
    for block in blocks:
        windows = np.pad(block, (0, -len(block) % WINDOW)).reshape(-1, WINDOW)
        tails = np.vstack([before, windows[:-1, -CONTEXT:]])
        feed = {"input": np.hstack([tails, windows]), "h": state, "c": cell}
        output, state, cell = _session().run(None, feed)
        before = windows[-1, -CONTEXT:]
        yield from np.ravel(output).tolist()


def regions(windows: Iterable[float], duration: float, options: SpeechOptions | None = None) -> Iterator[Region]:
    """Turn probabilities (one each 32 ms) into stretches of speech: joined over short pauses, long enough, padded.

    Where two paddings would meet, each gets half of the pause.
    """
    options = options or SpeechOptions()
    earlier: Region | None = None
    begin = 0.0
    for region in _bare(windows, duration, options):
        start = max(begin, region.start - options.pad)
        if earlier is not None:
            middle = (earlier.end + region.start) / 2
            yield Region(begin, round(min(earlier.end + options.pad, middle), 3))
            start = max(start, middle)
        earlier, begin = region, round(start, 3)
    if earlier is not None:
        yield Region(begin, round(min(duration, earlier.end + options.pad), 3))


def _bare(windows: Iterable[float], duration: float, options: SpeechOptions) -> Iterator[Region]:
    step = WINDOW / RATE
    start: float | None = None
    pause: float | None = None
    for number, probability in enumerate(windows):
        now = number * step
        if probability >= options.threshold:
            start, pause = now if start is None else start, None
        elif start is not None and probability < options.threshold - options.hysteresis:
            pause = now if pause is None else pause
        if start is not None and pause is not None and now - pause >= options.min_silence:
            if pause - start > options.min_speech:
                yield Region(start, pause)
            start = pause = None
    if start is not None and (pause or duration) - start > options.min_speech:
        yield Region(start, pause or duration)
