"""Looking through a clip: who is seen, what moves, and where it cuts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from callsheet.media import faces
from callsheet.media.cut import Cut
from callsheet.media.pictures import Bgr, Picture, pictures, small
from callsheet.media.reframe import BINS, Sample
from callsheet.media.shots import LONGEST_SIDE, SAMPLE_SECONDS, CutFinder


def watch(
    path: Path, picture: Picture, cut: Cut, axis: str, progress: Callable[[float], None] = lambda _: None
) -> list[Sample]:
    """Five samples a second of the clip, with its times. Cuts are looked for in every frame, faces in the samples; the
    sample at which a shot begins is taken at its first frame. A seam between two pieces counts as a cut."""
    samples: list[Sample] = []
    for piece, begin in zip(cut.pieces, cut.starts(), strict=True):
        end = piece.start + piece.frames / cut.fps
        for sample in _piece(path, picture, piece.start, end, axis):
            samples.append(_moved(sample, begin - piece.start))
            progress(min(1.0, samples[-1].time / max(cut.seconds, SAMPLE_SECONDS)))
    return samples


def _piece(path: Path, picture: Picture, start: float, end: float, axis: str) -> list[Sample]:
    finder = CutFinder(picture.fps)
    tiny, larger = small(picture, LONGEST_SIDE), small(picture, faces.LONGEST_SIDE)
    found: list[Sample] = []
    before: Bgr | None = None
    due = start
    for seen in pictures(path, picture, start, end):
        now = seen.bgr(*tiny)
        fresh = bool(finder.push(seen.time, now)) or not found
        if not fresh and seen.time < due - 1e-3:
            continue
        due = seen.time + SAMPLE_SECONDS
        motion = () if fresh or before is None else _profile(before, now, axis)
        time = start if not found else seen.time
        found.append(Sample(time, faces.find_faces(seen.bgr(*larger)), motion, fresh))
        before = now
    return found


def _moved(sample: Sample, by: float) -> Sample:
    return Sample(round(sample.time + by, 4), sample.faces, sample.motion, sample.new_shot)


def _profile(before: Bgr, now: Bgr, axis: str) -> tuple[float, ...]:
    """How much changed (sum of grey levels) in each of 32 parts from left to right, or from top to bottom."""
    changed = np.abs(before.mean(axis=2) - now.mean(axis=2))
    changed[changed < 4] = 0  # what a codec does to a still picture
    line = changed.sum(axis=0 if axis == "x" else 1)
    return tuple(round(float(part.sum()), 1) for part in np.array_split(line, BINS))
