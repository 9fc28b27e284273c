"""Faces in a picture: YuNet (face_detection_yunet_2023mar of the OpenCV model zoo) on OpenCV."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec

from callsheet.media.pictures import Bgr

MODEL = Path(__file__).parent / "data" / "face_detection_yunet_2023mar.onnx"
LONGEST_SIDE = 640  # pixels of the pictures it is given: 17 ms each, and faces from about 1/40 of the width are found
CONFIDENCE = 0.7


class Face(msgspec.Struct, frozen=True):
    """A face: its box in shares (0..1) of the picture's width and height, and how sure the network is (0..1)."""

    x: float
    y: float
    width: float
    height: float
    score: float

    @property
    def area(self) -> float:
        """The share of the picture that it takes."""
        return self.width * self.height


def find_faces(picture: Bgr) -> tuple[Face, ...]:
    """The faces in a picture, the largest first."""
    height, width = picture.shape[:2]
    _, rows = _detector(width, height).detect(picture)
    found = [_face(row, width, height) for row in rows] if rows is not None else []
    return tuple(sorted(found, key=lambda face: -face.area))


def _face(row: Any, width: int, height: int) -> Face:
    """From a row of YuNet: left, top, width and height in pixels, five landmarks, score."""
    box = [float(value) for value in row[:4]]
    return Face(box[0] / width, box[1] / height, box[2] / width, box[3] / height, float(row[14]))


@functools.lru_cache(maxsize=2)
def _detector(width: int, height: int) -> Any:
    import cv2  # noqa: PLC0415  (only the processes that look at pictures need it)

    logging: Any = cv2.utils.logging
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # it warns of a preference that nobody has stated
    return cv2.FaceDetectorYN.create(str(MODEL), "", (width, height), CONFIDENCE)
