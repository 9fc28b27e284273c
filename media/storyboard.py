"""A contact sheet of a video, and a WebVTT track that says which part of the sheet belongs to which time.

Players show it while one drags along the time line: `storyboard.jpg#xywh=…`, a spatial fragment of W3C "Media
Fragments URI 1.0", in the cues of a metadata track.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import cv2
import msgspec
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from callsheet.media.containers import open_media
from callsheet.media.errors import MediaError
from callsheet.media.ffmpeg import Progress
from callsheet.media.frames import Picture, pixel_shape, upright
from callsheet.media.limits import Limits, configure, current
from callsheet.media.probe import MediaFacts

TILES = 100
COLUMNS = 10
LEAST_SECONDS = 0.5  # between two tiles
SIDE = 160  # pixels, the longer one of a tile
PIXELS = 3_000_000_000  # decoded at most: ten seconds' work
APART_SECONDS = 120.0


class Sheet(msgspec.Struct, frozen=True):
    """What was made: how many tiles, how large, how far apart."""

    tiles: int
    columns: int
    tile_width: int
    tile_height: int
    seconds: float


def write(source: Path, facts: MediaFacts, sheet: Path, track: Path, progress: Progress | None = None) -> Sheet:
    """Write a contact sheet (JPEG) and its track (WebVTT). Bounded work, however long the video is.

    MediaError: no_video_stream, media_unreadable.
    """
    count = max(1, min(TILES, math.floor(facts.duration / LEAST_SECONDS)))
    step = facts.duration / count
    tiles: list[Picture] = []
    for tile in _tiles_at(source, facts, [(n + 0.5) * step for n in range(count)]):
        tiles.append(tile)
        if progress:
            progress(len(tiles) / count)
    height, width = tiles[0].shape[:2]
    columns = min(COLUMNS, count)
    whole = np.zeros((math.ceil(count / columns) * height, columns * width, 3), np.uint8)
    for n, tile in enumerate(tiles):
        row, column = divmod(n, columns)
        fitted = tile if tile.shape[:2] == (height, width) else cv2.resize(tile, (width, height))
        whole[row * height : (row + 1) * height, column * width : (column + 1) * width] = fitted
    cv2.imwrite(str(sheet), whole, [cv2.IMWRITE_JPEG_QUALITY, 82])
    made = Sheet(count, columns, width, height, round(step, 3))
    track.write_text(vtt(made, facts.duration, sheet.name))
    return made


def vtt(sheet: Sheet, duration: float, name: str) -> str:
    """The track: one cue a tile."""
    lines = ["WEBVTT", ""]
    for n in range(sheet.tiles):
        row, column = divmod(n, sheet.columns)
        area = (column * sheet.tile_width, row * sheet.tile_height, sheet.tile_width, sheet.tile_height)
        start, end = duration * n / sheet.tiles, duration * (n + 1) / sheet.tiles
        lines += [f"{_clock(start)} --> {_clock(end)}", f"{name}#xywh={','.join(map(str, area))}", ""]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"


def _tile(stream: VideoStream, frame: VideoFrame) -> Picture:
    picture = upright(frame)
    height, width = picture.shape[0], picture.shape[1] * float(pixel_shape(stream, frame))
    scale = SIDE / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _tiles_at(source: Path, facts: MediaFacts, times: list[float]) -> Iterator[Picture]:
    """The picture, small, at each of these times; where nothing decodes, the one before.

    A video that is short enough is decoded once, from its beginning. In a longer one each time is sought, and as many
    frames decoded after the key frame before it as there is time for: of a large picture the key frame has to do.
    """
    track = facts.video  # of any size: it is only looked at
    if track is None:
        raise MediaError("no_video_stream", "The file holds no moving picture.")
    most = PIXELS // max(1, track.width * track.height)
    found = None
    with open_media(source) as container:
        stream = next(s for s in container.streams.video if s.index == track.index)
        start = (container.start_time or 0) / av.time_base
        wanted = [start + time for time in times]
        if 0 < facts.duration * track.fps <= most:
            for found in _in_passing(container, stream, wanted.copy(), most):
                yield _tile(stream, found)
                wanted.pop(0)
        for seconds in wanted:
            found = _sought(container, stream, seconds, most // len(times)) or found
            if found is None:
                raise MediaError("media_unreadable", "None of the pictures could be decoded.")
            yield _tile(stream, found)


def _in_passing(container: InputContainer, stream: VideoStream, wanted: list[float], most: int) -> Iterator[VideoFrame]:
    """The frame that is shown at each of these times, as far as all before it decodes."""
    last = None
    try:
        for frame in itertools.islice(container.decode(stream), most):
            while wanted and last is not None and (frame.time or 0.0) > wanted[0]:
                wanted.pop(0)
                yield last
            last = frame
    except (av.error.FFmpegError, OSError, ValueError):
        return
    if last is not None:
        yield from itertools.repeat(last, len(wanted))


def _sought(container: InputContainer, stream: VideoStream, seconds: float, most: int) -> VideoFrame | None:
    found = None
    try:
        container.seek(max(0, int(seconds * av.time_base)), backward=True)
        for n, frame in enumerate(container.decode(stream), 1):
            found = frame
            if (frame.time or 0.0) >= seconds or n >= most:
                break
    except (av.error.FFmpegError, OSError, ValueError):
        pass  # what was decoded before the fault is as good a picture as any
    return found


class _Order(msgspec.Struct, frozen=True):
    source: str
    facts: MediaFacts
    sheet: str
    track: str
    limits: Limits


def write_apart(source: Path, facts: MediaFacts, sheet: Path, track: Path) -> None:
    """`write` in a process of its own, for a stage that must not end with it: what hangs is killed, and a decoder that
    crashes takes nothing along. MediaError: no_video_stream, media_unreadable."""
    order = _Order(str(source), facts, str(sheet), str(track), current())
    command = [sys.executable, "-P", "-m", "callsheet.media.storyboard"]
    try:
        made = subprocess.run(
            command, input=msgspec.json.encode(order), capture_output=True, check=False, timeout=APART_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise MediaError("media_unreadable", "The pictures took too long.") from None
    if made.returncode != 0:
        error = MediaError("media_unreadable", "The pictures could not be read.")
        error.add_note(made.stderr.decode(errors="replace")[-400:])
        raise error


if __name__ == "__main__":
    _order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    configure(_order.limits)
    write(Path(_order.source), _order.facts, Path(_order.sheet), Path(_order.track))
