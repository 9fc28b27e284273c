"""The pictures of a video, small, one after the other: as they are meant to be seen (turned upright, square pixels)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
import msgspec
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame

from callsheet.media.containers import open_media
from callsheet.media.errors import MediaError
from callsheet.media.hdr import Curve, curve_of

Bgr = npt.NDArray[np.uint8]
MAX_FPS = 60.0
USUAL_FPS = 30.0  # for a file that does not say
COMMON_FPS = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0)
UNWEAVE = "bwdif=mode=send_frame:deint=interlaced"  # a filter of ffmpeg: of two fields a frame, whole ones as they are
SEEK_BACK = 0.5  # seconds before what is wanted: containers index decoding times, which are a little earlier


class Picture(msgspec.Struct, frozen=True):
    """The moving picture of a file as it is seen: pixels across and down, frames a second (what is made of it has as
    many, at a constant rate), the stream's index, the turn (degrees counter-clockwise: 0, 90, 180, 270) it is given,
    `pq` or `hlg` if it is of high dynamic range, and whether its frames are woven of two fields."""

    index: int
    width: int
    height: int
    fps: float
    rotation: int = 0
    hdr: Curve = ""
    interlaced: bool = False


class Seen(msgspec.Struct, frozen=True):
    """A frame, `time` seconds from the start of the file."""

    time: float
    frame: Any
    rotation: int

    def bgr(self, width: int, height: int) -> Bgr:
        """The picture, turned upright and scaled to this size (shape (height, width, 3))."""
        size = (height, width) if self.rotation % 180 else (width, height)
        scaled = self.frame.reformat(*size, format="bgr24", interpolation="AREA").to_ndarray()
        return np.ascontiguousarray(np.rot90(scaled, self.rotation // 90))


def look(path: Path, index: int) -> Picture:
    """What the picture of stream `index` is like. MediaError: media_unreadable if no frame of it decodes."""
    with open_media(path) as container:
        stream: Any = container.streams[index]
        frame = next(_decoded(container, index), None)
        if frame is None:
            raise MediaError("media_unreadable", "None of the picture could be decoded.")
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = max(2, round(frame.width * float(aspect))), frame.height
        rotation = round(frame.rotation / 90) * 90 % 360
        if rotation % 180:
            width, height = height, width
        curve, woven = curve_of(frame.color_trc), bool(frame.interlaced_frame)
        return Picture(index, width, height, _fps(stream), rotation, curve, woven)


def small(picture: Picture, longest: int) -> tuple[int, int]:
    """Its size with the longer side at most `longest` pixels; both even."""
    scale = min(1.0, longest / max(picture.width, picture.height))
    return max(2, round(picture.width * scale / 2) * 2), max(2, round(picture.height * scale / 2) * 2)


def pictures(path: Path, picture: Picture, start: float = 0.0, end: float = float("inf")) -> Iterator[Seen]:
    """The frames with `start <= time < end`, in order. Packets that do not decode are passed over."""
    with open_media(path) as container:
        stream: Any = container.streams[picture.index]
        stream.thread_type = "AUTO"
        offset = _began(container)
        if start > SEEK_BACK:
            with contextlib.suppress(av.error.FFmpegError):  # what cannot be sought is read from its beginning
                container.seek(round((start - SEEK_BACK + offset) * av.time_base))
        frame: Any  # the type stubs of av say that it always has a time
        for frame in _decoded(container, picture.index):
            if frame.time is None or frame.time - offset < start - 1e-6:
                continue
            if frame.time - offset >= end:
                return
            yield Seen(frame.time - offset, frame, picture.rotation)


def _began(container: Any) -> float:
    """The file's first timestamp in seconds; a container may have no idea."""
    return float((container.start_time or 0) / av.time_base)


def _decoded(container: InputContainer, index: int) -> Iterator[VideoFrame]:
    packets = container.demux(container.streams[index])
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            decoded = packet.decode()
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError, ValueError, IndexError):
            continue  # as players do; after a fault in reading, `next` ends the loop
        yield from (frame for frame in decoded if isinstance(frame, VideoFrame))


def _fps(stream: Any) -> float:
    """A rate that editors know, if the file's is near one: the mean of a phone's varying rate is an odd number.

    Where frames are left out here and there, it is the rate of those that were not: at the mean, most would be shown at
    another time than they were taken. One that is twice the mean counts fields, or ticks of a clock.
    """
    stated = float(stream.average_rate or stream.guessed_rate or 0) or USUAL_FPS
    if stated < (full := float(stream.base_rate or 0)) < min(MAX_FPS + 1, 1.9 * stated):
        stated = full
    rate = min(max(stated, 1.0), MAX_FPS)
    near = min(COMMON_FPS, key=lambda common: abs(common - rate))
    return near if abs(near - rate) < 0.01 * near else rate
