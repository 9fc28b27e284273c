"""Where a video cuts from one shot to the next, and how much moves in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from callsheet.media.pictures import Bgr, Picture, Seen, pictures, small

SAMPLE_SECONDS = 0.2
LONGEST_SIDE = 160  # pixels: enough to tell one shot from another, and scaling costs little
SHORTEST_SHOT = 0.4  # seconds; what is shorter is a flash


class Shots(msgspec.Struct, frozen=True):
    """`cuts`: seconds at which a new shot begins (not 0). `motion`: how much the picture changes (mean difference of
    grey levels, 0..255) from sample to sample, one each `step` seconds from 0; at a cut, that of the sample before."""

    cuts: tuple[float, ...]
    motion: tuple[float, ...]
    step: float = SAMPLE_SECONDS


class CutFinder:
    """Takes frames one by one (small, BGR) and gives back the times at which shots begin."""

    def __init__(self, fps: float) -> None:
        from scenedetect import (  # type: ignore[import-untyped]  # noqa: PLC0415  (few processes need it)
            ContentDetector,
            FrameTimecode,
        )

        self._timecode = FrameTimecode
        self._fps = fps
        self._detector = ContentDetector(min_scene_len=max(1, round(SHORTEST_SHOT * fps)))
        self._times: list[float] = []

    def push(self, time: float, picture: Bgr) -> list[float]:
        """The cuts that are certain with this frame."""
        self._times.append(time)
        found = self._detector.process_frame(self._timecode(len(self._times) - 1, self._fps), picture)
        return [self._times[min(cut.frame_num, len(self._times) - 1)] for cut in found]


def scan(path: Path, picture: Picture, duration: float, progress: Callable[[float], None] = lambda _: None) -> Shots:
    """Look through a whole video, five times a second. Memory does not grow but by a number a sample."""
    cuts: list[float] = []
    motion: list[float] = []
    finder = CutFinder(1 / SAMPLE_SECONDS)
    size = small(picture, LONGEST_SIDE)
    before: Bgr | None = None
    for seen in sampled(pictures(path, picture)):
        now = seen.bgr(*size)
        new = finder.push(seen.time, now)
        cuts += new
        moved = _difference(before, now) if before is not None and not new else motion[-1] if motion else 0.0
        motion += [moved] * max(1, round(seen.time / SAMPLE_SECONDS) + 1 - len(motion))
        before = now
        progress(min(1.0, seen.time / max(duration, SAMPLE_SECONDS)))
    return Shots(tuple(round(cut, 3) for cut in cuts), tuple(round(value, 2) for value in motion))


def sampled(seen: Iterable[Seen], step: float = SAMPLE_SECONDS) -> Iterator[Seen]:
    """One frame each `step` seconds."""
    due = float("-inf")
    for one in seen:
        if one.time >= due - 1e-3:
            due = max(due + step, one.time + step / 2) if due > float("-inf") else one.time + step
            yield one


def _difference(before: Bgr, now: Bgr) -> float:
    """The mean difference of the two as grey levels."""
    return float(np.mean(np.abs(before.mean(axis=2) - now.mean(axis=2))))
