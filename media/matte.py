"""Which part of a picture is a person, offline: MediaPipe's selfie segmentation, run by OpenCV.

The network sees 256 x 256 pixels, so its edge is soft; it is sharpened here along the edges of the picture itself. It
knows people, near the camera, and nothing else: for anything else a matte has to come from elsewhere.
"""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from callsheet.media.frames import Picture

MODEL = Path(__file__).with_name("data") / "selfie_segmentation.tflite"
SIDE = 256
GUIDE = 480  # pixels, the longer side of what the filter works on
STEADY = 0.35  # share of the matte before, against a trembling edge
Matte = npt.NDArray[np.float32]  # shape (height, width): 1 is the person, 0 what is behind


class PeopleMatte:
    """Finds the people in the frames of one video, given in order."""

    def __init__(self) -> None:
        self._network = cv2.dnn.readNetFromTFLite(str(MODEL))
        self._before: Matte | None = None
        self._lock = threading.Lock()

    def __call__(self, picture: Picture, _seconds: float = 0.0) -> Matte:
        """The matte of the next frame."""
        with self._lock:
            small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            self._network.setInput(cv2.dnn.blobFromImage(small, 1 / 255.0, swapRB=True))
            found = self._network.forward().reshape(SIDE, SIDE).astype(np.float32)
            if self._before is not None:
                found += STEADY * (self._before - found)
            self._before = found
        return refined(found, picture)


def refined(coarse: Matte, picture: Picture) -> Matte:
    """A coarse matte in the picture's size, its edge drawn to those of the picture.

    A fast guided filter (He and Sun, "Fast Guided Filter", 2015) with the picture's lightness as its guide.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, GUIDE / max(height, width))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    guide = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32) / np.float32(255.0)
    small, matte = cv2.resize(guide, size, interpolation=cv2.INTER_AREA), cv2.resize(coarse, size)
    window = (max(3, size[0] // 100 * 2 + 1),) * 2
    mean_guide, mean_matte = cv2.blur(small, window), cv2.blur(matte, window)
    spread = cv2.blur(small * small, window) - mean_guide * mean_guide
    slope = (cv2.blur(small * matte, window) - mean_guide * mean_matte) / (spread + np.float32(1e-3))
    offset = mean_matte - slope * mean_guide
    large_slope, large_offset = (cv2.resize(cv2.blur(part, window), (width, height)) for part in (slope, offset))
    sharp: Matte = np.clip((large_slope * guide + large_offset - 0.15) / 0.7, 0.0, 1.0).astype(np.float32)
    return sharp
