"""Where the hook stands: where it hides nobody's face, if there is such a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from callsheet.media.captions import HOOK_TOP
from callsheet.media.faces import Face
from callsheet.media.pictures import Picture
from callsheet.media.reframe import Framing, Sample, positions

HIGHER, ENDS = 0.03, 0.58  # of the clip's height: another top, and a bottom that is still above captions
MARGIN = 0.12  # of the width, to either side of it


def place(framing: Framing, picture: Picture, samples: Sequence[Sample], fps: float, height: float) -> float:
    """The top of a hook that is `height` high, in shares of the clip's height: the usual one, the higher or the lower
    one, whichever hides least of the faces that are seen meanwhile."""
    if framing.layout == "blurred":  # hardly any faces, or none
        return HOOK_TOP
    faces = list(_on_screen(framing, picture, samples, fps))
    hidden = {top: sum(_hidden(face, top, height) for face in faces) for top in (HOOK_TOP, HIGHER, ENDS - height)}
    return min(hidden, key=lambda top: round(hidden[top] / max(1, len(faces)), 2))


def _on_screen(framing: Framing, picture: Picture, samples: Sequence[Sample], fps: float) -> Iterator[Face]:
    """The faces in shares of the clip, not of the source."""
    at = positions(framing, max((round(s.time * fps) for s in samples), default=0) + 1, fps)
    for sample in samples:
        along = at[round(sample.time * fps)]
        left, top = (along, framing.across) if framing.axis == "x" else (framing.across, along)
        wide, high = picture.width / framing.width, picture.height / framing.height
        for face in sample.faces:
            x, y = face.x * wide - left / framing.width, face.y * high - top / framing.height
            yield Face(x, y, face.width * wide, face.height * high, face.score)


def _hidden(face: Face, top: float, height: float) -> float:
    """The share of a face that the hook hides."""
    across = min(face.x + face.width, 1 - MARGIN) - max(face.x, MARGIN)
    down = min(face.y + face.height, top + height) - max(face.y, top)
    return max(0.0, across) * max(0.0, down) / face.area
