"""Putting a subject in front of another background, and a picture made elsewhere back to its sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np

from callsheet.media import ffmpeg
from callsheet.media.errors import MediaError
from callsheet.media.frames import Container, Picture, Repainted, container_for, even, picture_of, pictures, repaint
from callsheet.media.limits import current
from callsheet.media.matte import Matte
from callsheet.media.probe import MediaFacts

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # how PNG and JPEG begin; nothing else is decoded
Matting = Callable[[Picture, float], Matte]
SAME_LENGTH = 0.05  # share by which another's video may be longer or shorter before its times are stretched


class Background(msgspec.Struct, frozen=True):
    """What is put behind: a picture, or a colour (`#rrggbb`); `blur` in thousandths of the width."""

    colour: str = "#20242c"
    picture: Path | None = None
    blur: float = 0.0


def over_background(
    source: Path,
    facts: MediaFacts,
    target: Path,
    matting: Matting,
    background: Background,
    *,
    softness: float = 0.0,
    progress: ffmpeg.Progress | None = None,
) -> Repainted:
    """Write the video with its subject in front of a background. `softness`: of the edge, thousandths of the width.

    Frames, their times and the sound stay as they are. Raises MediaError.
    """
    behind: list[Picture] = []

    def paint(picture: Picture, seconds: float) -> Picture:
        if not behind or behind[0].shape != picture.shape:
            behind[:] = [backdrop(background, picture.shape[1], picture.shape[0])]
        matte = matting(picture, seconds)
        if softness > 0:
            matte = cv2.GaussianBlur(matte, (0, 0), softness * picture.shape[1] / 1000.0).astype(np.float32)
        return composite(picture, behind[0], matte)

    return repaint(source, facts, target, paint, threads=1, progress=progress)


def composite(front: Picture, behind: Picture, matte: Matte) -> Picture:
    """`front` where the matte is 1, `behind` where it is 0."""
    share = matte[:, :, None]
    mixed: Picture = (behind + share * (front.astype(np.float32) - behind) + np.float32(0.5)).astype(np.uint8)
    return mixed


def backdrop(background: Background, width: int, height: int) -> Picture:
    """The background in this size: a picture fills it and is cut at the sides. MediaError: bad_background_image."""
    if background.picture is None:
        blue, green, red = (int(background.colour[start : start + 2], 16) for start in (5, 3, 1))
        return np.full((height, width, 3), (blue, green, red), np.uint8)
    found = read_picture(background.picture)
    scale = max(width / found.shape[1], height / found.shape[0])
    size = (max(width, round(found.shape[1] * scale)), max(height, round(found.shape[0] * scale)))
    found = cv2.resize(found, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC).astype(np.uint8)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    found = found[top : top + height, left : left + width]
    if background.blur > 0:
        found = cv2.GaussianBlur(found, (0, 0), background.blur * width / 1000.0).astype(np.uint8)
    return np.ascontiguousarray(found)


def read_picture(path: Path) -> Picture:
    """A PNG or JPEG. MediaError: bad_background_image."""
    raw = path.read_bytes()
    check_picture(raw)
    found = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise MediaError("bad_background_image", "The background image cannot be decoded.")
    return found.astype(np.uint8, copy=False)


def check_picture(raw: bytes) -> None:
    """Whether this is a PNG or JPEG of bearable size, by its header. MediaError: bad_background_image."""
    if not raw.startswith(PICTURES):
        raise MediaError("bad_background_image", "The background image is neither PNG nor JPEG.")
    size = _png_size(raw) if raw.startswith(PICTURES[0]) else _jpeg_size(raw)
    if size is None or 0 in size:
        raise MediaError("bad_background_image", "The background image is damaged.")
    if size[0] * size[1] > current().pixels:
        raise MediaError("media_too_large", f"The background image is larger than {current().pixels} pixels.")


def _png_size(raw: bytes) -> tuple[int, int] | None:
    if len(raw) < 24:
        return None
    return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")


def _jpeg_size(raw: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(raw) and raw[at] == 0xFF:
        kind, length = raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(raw[at + 7 : at + 9], "big"), int.from_bytes(raw[at + 5 : at + 7], "big")
        at += 2 + max(2, length)
    return None


class VideoMatte:
    """A matte that comes as a black and white video, read along with the source by its times.

    It holds each of its frames until the next one's time: a matte with fewer frames still fits.
    """

    def __init__(self, path: Path, track: int, stretch: float = 1.0) -> None:
        self._frames = pictures(path, track)
        self._stretch = stretch
        self._now, self._begun = next(self._frames)
        self._next = next(self._frames, None)
        self._zero: float | None = None

    def __call__(self, picture: Picture, seconds: float) -> Matte:
        """The matte at a time, in the size of the picture. Times must not go back."""
        self._zero = seconds if self._zero is None else self._zero
        while self._next and (self._next[1] - self._begun) * self._stretch <= seconds - self._zero + 1e-3:
            self._now = self._next[0]
            self._next = next(self._frames, None)
        grey = cv2.cvtColor(self._now, cv2.COLOR_BGR2GRAY).astype(np.float32) / np.float32(255.0)
        return cv2.resize(grey, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)

    def close(self) -> None:
        """Close its file."""
        self._frames.close()


def stretch(facts: MediaFacts, other: MediaFacts) -> float:
    """By what the times of another's version of a video are multiplied to last as long as it does."""
    if other.duration <= 0 or abs(other.duration / facts.duration - 1.0) <= SAME_LENGTH:
        return 1.0
    return facts.duration / other.duration


def with_sound_of(source: Path, facts: MediaFacts, video: Path, video_facts: MediaFacts, target: Path) -> Container:
    """Write another's version of the video with the sound of the source, packet for packet. Raises MediaError."""
    options = [
        "-map",
        f"0:{picture_of(video_facts).index}",
        *(part for t in facts.audio for part in ("-map", f"1:{t.index}")),
    ]
    times = f"setpts=PTS*{stretch(facts, video_facts):.6f}"
    options += ["-vf", f"crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0,{times},format=yuv420p", "-fps_mode", "passthrough"]
    options += ["-enc_time_base", "demux", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-c:a", "copy"]
    options += ["-map_metadata", "-1", "-map_chapters", "-1", "-movflags", "+faststart"]
    limits = ffmpeg.ChildLimits(cpu_seconds=1800, output_seconds=facts.duration + 60.0)
    ffmpeg.run([ffmpeg.Input(video), ffmpeg.Input(source)], options, target, duration=facts.duration, limits=limits)
    return container_for(facts)


def save_first(picture: Picture, target: Path) -> None:
    """A frame as a JPEG."""
    cv2.imwrite(str(target), even(picture), [cv2.IMWRITE_JPEG_QUALITY, 95])
