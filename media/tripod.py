"""A camera on a heavy tripod, on one axis.

It stands still as long as what it looks at stays in a safe zone in the middle of the window; then it follows slowly,
until that is in the middle again. What is far away it turns to at once, but only when several samples in a row confirm
it. At a cut it begins afresh. All that it looks at in a shot is known beforehand: if a still window holds it, the
camera does not move at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

# Lengths here are shares of the window's.
SAFE = 0.12  # how far off the middle the target may be
SETTLED = 0.03  # as near it comes before the camera stands still again
JUMP = 0.6  # farther than this is not followed but jumped to,
CONFIRM = 3  # after as many samples in a row
SPEED = 0.4  # a second, at most
ACCELERATION = 0.8  # a second, of that
RESPONSE = 0.5  # seconds in which it would be there, were it not for the above


class Target(msgspec.Struct, frozen=True):
    """Where to look at a moment, as a share (0..1) of the picture; None: nothing is seen just now."""

    time: float
    at: float | None
    new_shot: bool = False


class Turn(msgspec.Struct, frozen=True):
    """At `time` the window's middle is at `at`; with `glide` it comes there evenly from the turn before."""

    time: float
    at: float
    glide: bool = False


def follow(targets: Sequence[Target], length: float) -> list[Turn]:
    """The way of a window that takes `length` (0..1) of the picture."""
    turns = [turn for shot in _shots(targets) for turn in _follow_shot(shot, length)]
    return turns or [Turn(0.0, 0.5)]


def _shots(targets: Sequence[Target]) -> list[list[Target]]:
    shots: list[list[Target]] = []
    for target in targets:
        if target.new_shot or not shots:
            shots.append([])
        shots[-1].append(target)
    return shots


def _follow_shot(shot: Sequence[Target], length: float) -> Iterator[Turn]:
    begin, seen = shot[0].time, [target.at for target in shot if target.at is not None]
    if not seen:
        yield Turn(begin, 0.5)
    elif max(seen) - min(seen) <= 2 * SAFE * length:
        yield Turn(begin, (max(seen) + min(seen)) / 2)
    else:
        yield from _move(shot, float(np.median(seen[:CONFIRM])), length)


def _move(shot: Sequence[Target], camera: float, length: float) -> Iterator[Turn]:
    """From `camera` on, sample by sample."""
    far, speed, moving, last = 0, 0.0, False, shot[0].time
    yield Turn(last, camera)
    for target in shot[1:]:
        step, last = target.time - last, target.time
        off = 0.0 if target.at is None else (target.at - camera) / length
        far = far + 1 if abs(off) > JUMP else 0
        if far >= CONFIRM and target.at is not None:
            camera, far, speed, moving = target.at, 0, 0.0, False
            yield Turn(target.time, camera)
            continue
        moving = (SETTLED if moving else SAFE) < abs(off) <= JUMP
        wanted = float(np.clip(off / RESPONSE, -SPEED, SPEED)) if moving else 0.0
        speed += float(np.clip(wanted - speed, -ACCELERATION * step, ACCELERATION * step))
        camera += speed * step * length
        yield Turn(target.time, camera, glide=True)
