"""What a clip is cut from: pieces of a recording, on the grid of its frames, so that sound, picture and words agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np

from callsheet.media.audio import RATE, Samples
from callsheet.media.transcript import Word

MAX_PIECES = 12
SHORTEST_PIECE = 0.5  # seconds
LONGEST_CLIP = 180.0
PAUSE = 0.7  # seconds without a word from which on a pause may go
KEEP_BEFORE, KEEP_AFTER = 0.15, 0.25  # seconds of it that stay, before the next word and after the last one
QUIET_DB = 20.0  # how far below the loud parts of the clip a pause must lie: music and laughter stay
LEVEL_SECONDS = 0.05


class Span(Protocol):
    """Anything with a start and an end in seconds."""

    @property
    def start(self) -> float:
        """Where it begins."""
        ...

    @property
    def end(self) -> float:
        """Where it ends."""
        ...


class Piece(msgspec.Struct, frozen=True):
    """`frames` frames from `start` (seconds of the source)."""

    start: float
    frames: int


class Cut(msgspec.Struct, frozen=True):
    """The pieces of a clip, one after the other, at `fps` frames a second."""

    pieces: tuple[Piece, ...]
    fps: float

    @property
    def frames(self) -> int:
        """How many frames the clip has."""
        return sum(piece.frames for piece in self.pieces)

    @property
    def seconds(self) -> float:
        """How long the clip is."""
        return self.frames / self.fps

    def first(self, seconds: float) -> Cut:
        """Its beginning, in whole frames."""
        left, pieces = round(seconds * self.fps), []
        for piece in self.pieces:
            if left > 0:
                pieces.append(Piece(piece.start, min(piece.frames, left)))
                left -= piece.frames
        return Cut(tuple(pieces), self.fps)

    def starts(self) -> list[float]:
        """Where in the clip each piece begins, in seconds."""
        ends = np.cumsum([piece.frames for piece in self.pieces]) / self.fps
        return [0.0, *ends.tolist()][: len(self.pieces)]

    def words(self, words: Sequence[Word]) -> list[Word]:
        """The words heard in the clip, with times of the clip. One that only reaches in by less than half is left."""
        heard = []
        for piece, begin in zip(self.pieces, self.starts(), strict=True):
            end = piece.start + piece.frames / self.fps
            for word in words:
                if piece.start <= (word.start + word.end) / 2 < end:
                    first, last = max(word.start, piece.start), min(word.end, end)
                    shift = begin - piece.start
                    heard.append(
                        msgspec.structs.replace(word, start=round(first + shift, 3), end=round(last + shift, 3))
                    )
        return heard


def on_frames(spans: Sequence[Span], fps: float) -> Cut:
    """These stretches of the source as pieces of whole frames: each at most half a frame longer or shorter."""
    return Cut(tuple(Piece(round(s.start, 3), max(1, round((s.end - s.start) * fps))) for s in spans), fps)


class Stretch(msgspec.Struct, frozen=True):
    """Seconds start..end of the source."""

    start: float
    end: float


def without_pauses(start: float, end: float, words: Sequence[Word], sound: Samples) -> list[Stretch]:
    """start..end without its longest quiet pauses: at most 12 stretches, none shorter than half a second.

    `words` are those of the source, `sound` the 16 kHz samples of start..end. No word is touched.
    """
    inside = [word for word in words if word.end > start and word.start < end]
    gaps = [g for g in _gaps(start, end, inside) if _quiet(sound, g.start - start, g.end - start)]
    longest = sorted(gaps, key=lambda gap: gap.start - gap.end)[: MAX_PIECES - 1]
    kept: list[Stretch] = []
    at = start
    for gap in sorted(longest, key=lambda gap: gap.start):
        if gap.start - at >= SHORTEST_PIECE and end - gap.end >= SHORTEST_PIECE:
            kept.append(Stretch(round(at, 3), round(gap.start, 3)))
            at = gap.end
    return [*kept, Stretch(round(at, 3), round(end, 3))]


def _gaps(start: float, end: float, words: Sequence[Word]) -> list[Stretch]:
    """What of the pauses between words may go."""
    gaps = []
    last = None
    for word in words:
        if last is not None and word.start - last >= PAUSE:
            gaps.append(Stretch(last + KEEP_AFTER, word.start - KEEP_BEFORE))
        last = max(word.end, last or word.end)
    return [gap for gap in gaps if start < gap.start < gap.end < end]


def _quiet(sound: Samples, start: float, end: float) -> bool:
    """Whether start..end (seconds of the sound) is far quieter than the loud tenth of the whole."""
    levels = _levels(sound)
    part = levels[round(start / LEVEL_SECONDS) : max(round(start / LEVEL_SECONDS) + 1, round(end / LEVEL_SECONDS))]
    return len(part) > 0 and bool(np.quantile(part, 0.9) < np.quantile(levels, 0.9) - QUIET_DB)


def _levels(sound: Samples) -> Samples:
    """The level of each 50 ms, in dB of full scale."""
    width = int(LEVEL_SECONDS * RATE)
    whole = sound[: len(sound) // width * width].reshape(-1, width)
    levels: Samples = 20 * np.log10(np.sqrt(np.mean(np.square(whole), axis=1)) + np.float32(1e-5))
    return levels
