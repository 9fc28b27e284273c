"""Repainting a video frame by frame: what goes in comes out, at the same times, upright, with its sound untouched.

One pass over the file: pictures are decoded, painted and encoded; packets of sound are copied as they are. Only a few
frames are in memory at any time, whatever the length.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from callsheet.media.containers import open_media
from callsheet.media.errors import MediaError
from callsheet.media.ffmpeg import Progress
from callsheet.media.hdr import BT709, curve_of, ordinary
from callsheet.media.limits import current
from callsheet.media.probe import MediaFacts, VideoFacts

Picture = npt.NDArray[np.uint8]  # shape (height, width, 3), channels blue, green, red, as OpenCV has them
Paint = Callable[[Picture, float], Picture]  # a frame and its time in seconds; may run in several threads at once
Settle = Callable[[Picture, Picture], Picture]  # a frame and what was painted of it; one after the other, in order
IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})  # sound that MP4 holds and players play
QUALITY = {"crf": "18", "preset": "veryfast"}
MIN_SIDE = 16  # pixels; encoders have no use for less
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


class Container(msgspec.Struct, frozen=True):
    """What a result is written as: a suffix, and its media type."""

    suffix: str
    media_type: str


class Repainted(msgspec.Struct, frozen=True):
    """What was written: its frames, and its size in pixels."""

    frames: int
    width: int
    height: int


def container_for(facts: MediaFacts) -> Container:
    """MP4 where it can hold the sound as it is, else Matroska, which holds any: sound is never encoded again."""
    if all(track.codec in IN_MP4 for track in facts.audio):
        return Container(".mp4", "video/mp4")
    return Container(".mkv", "video/x-matroska")


def picture_of(facts: MediaFacts) -> VideoFacts:
    """The moving picture. MediaError: no_video_stream, media_too_small."""
    if facts.video is None:
        raise MediaError("no_video_stream", "The file holds no moving picture.")
    if min(facts.video.width, facts.video.height) < MIN_SIDE:
        raise MediaError("media_too_small", f"The picture is smaller than {MIN_SIDE} pixels.")
    return facts.video


def pictures(source: Path, track: int) -> Generator[tuple[Picture, float]]:
    """The frames of a track, upright, each with its time in seconds. MediaError: media_unreadable when none decodes."""
    with open_media(source) as container:
        for frame in _frames(container, track):
            yield upright(frame), frame.time or 0.0


def first_picture(source: Path, facts: MediaFacts) -> Picture:
    """The first frame, upright. MediaError: media_unreadable."""
    return upright(_first_frame(source, picture_of(facts).index))


def _first_frame(source: Path, track: int) -> VideoFrame:
    with open_media(source) as container, contextlib.closing(_frames(container, track)) as found:
        return next(found)


def repaint(
    source: Path,
    facts: MediaFacts,
    target: Path,
    paint: Paint,
    *,
    settle: Settle | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Repainted:
    """Write `source` to `target` with every frame painted; the container is the one `container_for` gives.

    An odd width or height loses its last column or row: H.264 stores colour for pairs of pixels.
    MediaError: media_unreadable, conversion_failed.
    """
    track = picture_of(facts).index
    first = _first_frame(source, track)
    height, width = even(upright(first)).shape[:2]
    threads = threads or current().threads
    with open_media(source) as read, _create(target) as written, ThreadPoolExecutor(threads) as pool:
        video = _video(read, track)
        writer = _Writer(written, video, (width, height), pixel_shape(video, first), settle)
        sound = {t.index: written.add_stream_from_template(read.streams[t.index]) for t in facts.audio}
        work = _Ordered(pool, paint, 2 * threads)
        began = max(Fraction(read.start_time or 0, av.time_base), Fraction(0))
        for packet in _packets(read):
            if packet.stream.index == track:
                for frame in _decoded(packet):
                    frame.pts = _since(began, frame.pts, frame.time_base)
                    writer.write(work.put(frame))
                    _tell(progress, frame, facts)
            elif packet.stream.index in sound and packet.dts is not None:
                packet.pts, packet.dts = (_since(began, t, packet.time_base) for t in (packet.pts, packet.dts))
                packet.stream = sound[packet.stream.index]
                written.mux(packet)
        writer.write(work.rest())
        return writer.end()


def _since(began: Fraction, time: int | None, base: Fraction | None) -> int | None:
    """A timestamp from the beginning of the file, which need not be at 0: players would show nothing until then."""
    return None if time is None or not base else time - round(began / base)


def _tell(progress: Progress | None, frame: VideoFrame, facts: MediaFacts) -> None:
    if progress and facts.duration > 0:
        progress(min(1.0, max(0.0, (frame.time or 0.0) / facts.duration)))


class _Ordered:
    """Paints frames in several threads and gives them back in order, `ahead` of them in work at most."""

    def __init__(self, pool: ThreadPoolExecutor, paint: Paint, ahead: int) -> None:
        self._pool, self._paint, self._ahead = pool, paint, ahead
        self._work: collections.deque[Future[_Painted]] = collections.deque()

    def put(self, frame: VideoFrame) -> Iterator[_Painted]:
        """Take a frame; give back those that must be done first."""
        self._work.append(self._pool.submit(self._do, frame))
        while len(self._work) >= self._ahead:
            yield self._work.popleft().result()

    def rest(self) -> Iterator[_Painted]:
        """All that is left."""
        while self._work:
            yield self._work.popleft().result()

    def _do(self, frame: VideoFrame) -> _Painted:
        before = even(upright(frame))
        after = self._paint(before, frame.time or 0.0)
        return _Painted(frame, before, after)


class _Painted(msgspec.Struct):
    frame: VideoFrame
    before: Picture
    after: Picture


class _Writer:
    """Encodes painted frames at the times they had. The first frame of the source has said their size."""

    def __init__(
        self,
        written: OutputContainer,
        video: VideoStream,
        size: tuple[int, int],
        shape: Fraction,
        settle: Settle | None,
    ) -> None:
        self._written, self._video, self._settle = written, video, settle
        self._base = video.time_base or Fraction(1, 90_000)
        self._last = -(1 << 62)
        self._frames = 0
        self._stream = stream = written.add_stream("libx264", rate=video.average_rate or 25, options=QUALITY)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        stream.codec_context.time_base = self._base
        stream.codec_context.sample_aspect_ratio = shape
        told = video.codec_context
        for tag in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(stream.codec_context, tag, BT709.get(tag) if curve_of(told.color_trc) else getattr(told, tag))

    def write(self, painted: Iterator[_Painted]) -> None:
        """Encode these frames."""
        size = (self._stream.width, self._stream.height)
        for one in painted:
            after = self._settle(one.before, one.after) if self._settle else one.after
            if after.shape[1::-1] != size:  # some files change their size on the way
                after = cv2.resize(after, size).astype(np.uint8)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(after), format="bgr24")
            frame.time_base = self._base
            frame.pts = self._last = self._time(one.frame)
            self._written.mux(self._stream.encode(frame))
            self._frames += 1

    def end(self) -> Repainted:
        """Write what the encoder still holds."""
        self._written.mux(self._stream.encode(None))
        return Repainted(self._frames, self._stream.width, self._stream.height)

    def _time(self, frame: VideoFrame) -> int:
        """Its timestamp; some containers leave it out, and broken ones repeat it, which no encoder takes."""
        if frame.pts is not None:
            return max(int(frame.pts), self._last + 1)
        if self._frames == 0:
            return 0
        rate = self._video.average_rate
        return self._last + max(1, round(1 / (rate * self._base)) if rate else 1)


@contextlib.contextmanager
def _create(target: Path) -> Iterator[OutputContainer]:
    options = {"movflags": "+faststart"} if target.suffix == ".mp4" else {}
    try:
        with av.open(str(target), "w", options=options) as container:
            yield container
    except (av.error.FFmpegError, OSError) as error:
        target.unlink(missing_ok=True)
        raise MediaError("conversion_failed", "The repainted video could not be written.") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _video(container: InputContainer, track: int) -> VideoStream:
    return next(stream for stream in container.streams.video if stream.index == track)


def _packets(container: InputContainer) -> Iterator[Any]:
    packets = container.demux()
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError, IndexError):
            return
        if packet is None:
            return
        yield packet


def _decoded(packet: Any) -> Iterator[VideoFrame]:
    try:
        yield from (frame for frame in packet.decode() if isinstance(frame, VideoFrame))
    except (av.error.FFmpegError, ValueError):
        return  # a packet that does not decode is passed over, as players do


def _frames(container: InputContainer, track: int) -> Generator[VideoFrame]:
    found = False
    for packet in _packets(container):
        if packet.stream.index == track:
            for frame in _decoded(packet):
                found = True
                yield frame
    if not found:
        raise MediaError("media_unreadable", "None of the pictures could be decoded.")


def upright(frame: VideoFrame) -> Picture:
    """The frame as it is to be seen: turned by what its file says, which is a multiple of 90 degrees, and of ordinary
    range."""
    picture = frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
    if curve := curve_of(frame.color_trc):
        picture = ordinary(picture, curve)
    turn = TURNS.get(round(frame.rotation / 90) * 90 % 360)
    return picture if turn is None else cv2.rotate(picture, turn).astype(np.uint8, copy=False)


def pixel_shape(video: VideoStream, frame: VideoFrame) -> Fraction:
    """How wide its pixels are for their height, once it is upright: not 1 in what was made for television."""
    shape = video.sample_aspect_ratio or Fraction(1)
    return 1 / shape if round(frame.rotation / 90) % 2 else shape


def even(picture: Picture) -> Picture:
    """Without its last row or column where their number is odd."""
    height, width = picture.shape[:2]
    return np.ascontiguousarray(picture[: height - height % 2, : width - width % 2])
