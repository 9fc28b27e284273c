"""What of a recording is recognised together: windows of stretches of speech, and the way back to its own times.

A stretch is taken with half a second of what surrounds it: cut to its very edges, one in three test cuts lost or bent
the word next to the cut. Stretches that come closer meet in the middle of the pause. A window is a few minutes of whole
stretches; longer pauses are left out. So memory does not grow with the length of the recording, and a seam lies in a
pause. A single stretch longer than a window is cut at the quietest tenth of a second in the last fifth of the window,
so that no word is cut. Times are mapped back to the source stretch by stretch.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from callsheet.media.audio import RATE, Samples, read_wav
from callsheet.media.speech import Region

LEAST_WINDOW = 45.0  # seconds: in shorter ones, the recogniser's steps of 30 s are half empty
SLACK = 1.2
LEAST_SHARED = 0.08  # seconds
SEARCH_SHARE = 0.2  # a forced cut is looked for in this last share of the window
QUIET_SECONDS = 0.1


class Piece(msgspec.Struct, frozen=True):
    """Samples start..end of the source."""

    start: int
    end: int


def window_seconds(speech: float, most: float, workers: int) -> float:
    """How long windows should be, so that as many as there are workers end together; `most` seconds at most."""
    if workers == 1:
        return most
    rounds = max(1, math.ceil(speech / (most * workers)))
    return min(most, max(LEAST_WINDOW, speech / (rounds * workers)))


def windows(wav: Path, regions: Sequence[Region], seconds: float) -> Iterator[list[Piece]]:
    """Pack the stretches of speech into windows of about `seconds`, never more than a fifth longer, cutting only those
    that are longer than that themselves."""
    enough, longest = int(seconds * RATE), int(seconds * SLACK * RATE)
    window: list[Piece] = []
    for piece in itertools.chain.from_iterable(_cut(wav, region, longest) for region in regions):
        if window and (length(window) >= enough or length(window) + piece.end - piece.start > longest):
            yield window
            window = []
        window.append(piece)
    if window:
        yield window


def length(window: Sequence[Piece]) -> int:
    """The samples in a window."""
    return sum(piece.end - piece.start for piece in window)


def widen(regions: Sequence[Region], duration: float, margin: float) -> list[Region]:
    """The stretches with `margin` seconds more on both sides, or half of the pause where that is shorter."""
    ends = [0.0, *(r.end for r in regions)]
    starts = [*(r.start for r in regions), duration]
    wide = []
    for n, region in enumerate(regions):
        before = max(region.start - margin, 0.0 if n == 0 else (ends[n] + region.start) / 2)
        after = min(region.end + margin, duration if n == len(regions) - 1 else (region.end + starts[n + 1]) / 2)
        wide.append(Region(before, after))
    return wide


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
