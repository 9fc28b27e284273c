"""Which part of a wide picture an upright or square clip shows, and how that part moves.

Where faces are seen, the window follows them (tripod.py). In a shot without a face it lies where most moves. A clip in
which nobody is seen and nothing moves in one place is shown whole, on a blurred copy of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from callsheet.media.faces import Face
from callsheet.media.pictures import Picture
from callsheet.media.tripod import SETTLED, Target, follow

Shape = Literal["vertical", "square", "horizontal"]
Layout = Literal["whole", "faces", "motion", "blurred"]
SIZES: dict[Shape, tuple[tuple[int, int], ...]] = {
    "vertical": ((1080, 1920), (720, 1280), (540, 960), (360, 640)),
    "square": ((1080, 1080), (720, 720), (540, 540), (360, 360)),
    "horizontal": ((1920, 1080), (1280, 720), (960, 540), (640, 360)),
}
MOST_ENLARGED = 3.0  # a 720p picture still gives 1080 x 1920; less becomes a smaller clip, not a blurred large one
SAME_SHAPE = 0.02
FACES_NEEDED = 0.2  # share of the samples in which a face must be seen for faces to be followed
MOTION_NEEDED = 0.6  # share of all motion that must lie in the window for it to be worth showing that alone
BINS = 32  # parts of the axis the window moves on


class Sample(msgspec.Struct, frozen=True):
    """What is seen at a moment of the clip. `motion`: how much moves in each of 32 parts along the axis."""

    time: float
    faces: tuple[Face, ...] = ()
    motion: tuple[float, ...] = ()
    new_shot: bool = False


class Key(msgspec.Struct, frozen=True):
    """At `time` the window begins at `at` pixels; with `glide` it comes there evenly from the key before."""

    time: float
    at: int
    glide: bool = False


class Framing(msgspec.Struct, frozen=True):
    """The window in pixels of the source (even), the axis it moves on, its way, and the size of the clip."""

    layout: Layout
    width: int
    height: int
    axis: Literal["x", "y"]
    keys: tuple[Key, ...]
    across: int  # where the window lies on the other axis
    size: tuple[int, int]


def shape_for(picture: Picture, wanted: str) -> Shape:
    """`auto` is upright, but for a square picture."""
    if wanted in SIZES:
        return wanted
    return "square" if abs(picture.width / picture.height - 1) < SAME_SHAPE else "vertical"


def axis_of(picture: Picture, shape: Shape) -> Literal["x", "y"]:
    """The axis on which the window has room."""
    width, height = SIZES[shape][0]
    return "x" if picture.width / picture.height >= width / height else "y"


def is_whole(picture: Picture, shape: Shape) -> bool:
    """Whether the picture has that shape as it is: then nobody need look where the window goes."""
    return _window(picture, shape)[2] < SAME_SHAPE


def frame(picture: Picture, shape: Shape, samples: Sequence[Sample]) -> Framing:
    """How the clip shows this picture; of a whole one no samples are needed."""
    width, height, _ = _window(picture, shape)
    size = _size(shape, width, height)
    axis = axis_of(picture, shape)
    room = (picture.width - width) if axis == "x" else (picture.height - height)
    across = ((picture.height - height) if axis == "x" else (picture.width - width)) // 2
    length, total = (width, picture.width) if axis == "x" else (height, picture.height)
    if is_whole(picture, shape):
        return Framing("whole", width, height, axis, (Key(0.0, room // 2),), across, size)
    layout, centres = _layout(samples, axis, length / total)
    if layout == "blurred":
        return Framing(layout, picture.width, picture.height, axis, (Key(0.0, 0),), 0, _blurred_size(picture, shape))
    path = follow(centres, length / total)
    keys = tuple(Key(k.time, min(max(round(k.at * total - length / 2), 0), room), k.glide) for k in path)
    return Framing(layout, width, height, axis, _thin(keys), across, size)


def _window(picture: Picture, shape: Shape) -> tuple[int, int, float]:
    """The largest window of that shape, and how far (0..1) the picture is from having it."""
    wide, high = SIZES[shape][0]
    aspect, own = wide / high, picture.width / picture.height
    width = min(picture.width, picture.height * aspect)
    height = min(picture.height, picture.width / aspect)
    return int(width) // 2 * 2, int(height) // 2 * 2, abs(1 - min(own, aspect) / max(own, aspect))


def _size(shape: Shape, width: int, height: int) -> tuple[int, int]:
    fitting = (s for s in SIZES[shape] if s[0] <= width * MOST_ENLARGED and s[1] <= height * MOST_ENLARGED)
    return next(fitting, SIZES[shape][-1])


def _blurred_size(picture: Picture, shape: Shape) -> tuple[int, int]:
    """Here all of the picture is fitted in, so its longer side decides."""
    return next(
        (s for s in SIZES[shape] if min(s[0] / picture.width, s[1] / picture.height) <= MOST_ENLARGED),
        SIZES[shape][-1],
    )


def _layout(samples: Sequence[Sample], axis: str, length: float) -> tuple[Layout, list[Target]]:
    """What the clip is framed by, and where that is. `length`: the window's share of the picture along the axis."""
    shots = _shots(samples)
    seen = sum(bool(sample.faces) for sample in samples)
    if samples and seen / len(samples) >= FACES_NEEDED:
        return "faces", [target for shot in shots for target in _targets(shot, axis, length)]
    spots = [_busiest(shot, length) for shot in shots]
    inside, total = sum(spot[1] for spot in spots), sum(spot[2] for spot in spots)
    if total > 0 and inside / total >= MOTION_NEEDED:
        return "motion", [
            Target(s.time, spot[0], s.new_shot) for shot, spot in zip(shots, spots, strict=True) for s in shot
        ]
    return "blurred", []


def _shots(samples: Sequence[Sample]) -> list[list[Sample]]:
    shots: list[list[Sample]] = []
    for sample in samples:
        if sample.new_shot or not shots:
            shots.append([])
        shots[-1].append(sample)
    return shots


def _targets(shot: Sequence[Sample], axis: str, length: float) -> list[Target]:
    """In each sample of a shot: all faces if they fit into the window, else the one that was looked at before, or the
    largest. A shot without any is looked at where most moves."""
    if not any(sample.faces for sample in shot):
        middle = _busiest(shot, length)[0]
        return [Target(sample.time, middle, sample.new_shot) for sample in shot]
    targets: list[Target] = []
    before: float | None = None
    for sample in shot:
        if sample.faces:
            before = _centre(sample.faces, axis, length, before)
        targets.append(Target(sample.time, before if sample.faces else None, sample.new_shot))
    return targets


def _centre(faces: Sequence[Face], axis: str, length: float, before: float | None) -> float:
    spans = [(f.x, f.x + f.width) if axis == "x" else (f.y, f.y + f.height) for f in faces]
    weighty = [s for f, s in zip(faces, spans, strict=True) if f.area >= faces[0].area / 4]  # not those far behind
    low, high = min(s[0] for s in weighty), max(s[1] for s in weighty)
    if high - low <= length * (1 - 2 * SETTLED):
        return (low + high) / 2
    middles = [(s[0] + s[1]) / 2 for s in weighty]
    if before is None:
        return middles[0]
    near = min(middles, key=lambda middle: abs(middle - before))
    return near if abs(near - before) < length / 2 else middles[0]


def _busiest(shot: Sequence[Sample], length: float) -> tuple[float, float, float]:
    """The middle (0..1) of the window in which most moves, how much that is, and how much moves in all."""
    profiles = [sample.motion for sample in shot if sample.motion]
    if not profiles:
        return 0.5, 0.0, 0.0
    profile = np.sum(np.array(profiles), axis=0)
    wide = max(1, round(length * len(profile)))
    sums = np.convolve(profile, np.ones(wide), mode="valid")
    best = np.flatnonzero(sums >= sums.max() * 0.999)
    at = int(best[len(best) // 2])
    return (at + wide / 2) / len(profile), float(sums[at]), float(profile.sum())


def _thin(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Without the keys that change nothing."""
    kept = list(keys[:1])
    for number, key in enumerate(keys[1:], 1):
        after = keys[number + 1] if number + 1 < len(keys) else None
        if key.at != kept[-1].at or (after is not None and after.at != key.at):
            kept.append(key)
    return tuple(kept)


def positions(framing: Framing, frames: int, fps: float) -> list[int]:
    """Where the window begins at each frame of the clip, in pixels."""
    keys = framing.keys
    placed: list[int] = []
    number = 0
    for n in range(frames):
        now = n / fps
        while number + 1 < len(keys) and keys[number + 1].time <= now + 1e-6:
            number += 1
        here, following = keys[number], keys[number + 1] if number + 1 < len(keys) else None
        at = float(here.at)
        if following is not None and following.glide and following.time > here.time:
            share = max(0.0, now - here.time) / (following.time - here.time)
            at += (following.at - here.at) * share
        placed.append(round(at))
    return placed
