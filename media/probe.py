"""What is in a media file, and whether it may be taken. Nothing is decoded: headers and packets only."""

from __future__ import annotations

from pathlib import Path

import av.error
import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from callsheet.media import containers
from callsheet.media.errors import MediaError
from callsheet.media.hdr import Curve, curve_of
from callsheet.media.limits import Limits, current

MISSING_SECONDS = 0.3  # a container and its packets may disagree by this much, or by
MISSING_SHARE = 0.002  # this share, whichever is more, before the file counts as cut off
MEDIA_TYPES = {
    "mov": "mp4",
    "matroska": "x-matroska",
    "avi": "x-msvideo",
    "flv": "x-flv",
    "mpegts": "mp2t",
    "mpeg": "mpeg",
    "asf": "x-ms-asf",
    "mp3": "mpeg",
    "wav": "wav",
    "w64": "x-w64",
    "caf": "x-caf",
    "au": "basic",
}


class AudioFacts(msgspec.Struct, frozen=True):
    """An audio track: its index in the file, codec name, rate in Hz, number of channels."""

    index: int
    codec: str
    rate: int
    channels: int
    default: bool = False


class VideoFacts(msgspec.Struct, frozen=True):
    """The first moving picture: codec name, size in pixels, frames a second (0 if unknown), and `pq` or `hlg` if it is
    of high dynamic range."""

    index: int
    codec: str
    width: int
    height: int
    fps: float
    hdr: Curve = ""


class MediaFacts(msgspec.Struct, frozen=True):
    """What a probe found. `duration` is that of the file and `audio_seconds` the end of the chosen track, both in
    seconds from the file's first timestamp."""

    container: str
    media_type: str
    bytes: int
    duration: float
    audio: tuple[AudioFacts, ...]
    audio_index: int
    audio_seconds: float
    video: VideoFacts | None = None

    @property
    def speech_track(self) -> AudioFacts:
        """The audio track that is worked on: the one marked default, else the first."""
        return next(track for track in self.audio if track.index == self.audio_index)


class _Span(msgspec.Struct):
    """Where the packets of a stream begin and end, in seconds of the container's clock."""

    start: float
    end: float


def probe(path: Path, limits: Limits | None = None, *, need_sound: bool = True) -> MediaFacts:
    """Facts about a file that holds audio and is within the limits (the process's own, unless given).

    Without `need_sound` a silent file will do, too: its `audio` is empty, `audio_index` -1 and `audio_seconds` 0.
    MediaError: empty_file, media_too_large, unsupported_container, media_unreadable, no_audio_stream,
    unsupported_codec, truncated_file, media_too_short.
    """
    limits = limits or current()
    size = containers.file_size(path)
    if size > limits.bytes:
        raise MediaError("media_too_large", f"The file is larger than {limits.bytes} bytes.")
    if containers.hides_playlist(containers.read_head(path)):
        raise MediaError("unsupported_container", "The file carries a playlist.")
    if containers.packed_index(path) > containers.MAX_INDEX:
        raise MediaError("media_too_large", f"The file's index unpacks to more than {containers.MAX_INDEX} bytes.")
    with containers.open_media(path, limits) as container:
        _check_shape(path, container, limits)
        spans = _spans(container)
        if not spans:
            raise containers.refuse(path)
        tracks = _audio_tracks(container) if need_sound or container.streams.audio else ()
        _check_complete(path, container, spans)
        facts = _facts(path, container, spans, tracks, size)
    _check_length(facts.duration, limits)
    return facts


def _check_shape(path: Path, container: InputContainer, limits: Limits) -> None:
    if len(container.streams) > limits.streams:
        raise containers.too_many_streams(limits)
    pixels = _pixels(container)
    if 0 in pixels:  # libav shows no size for a picture that it found too large; ask again, looking at one packet only
        with containers.open_media(path, limits, max_pixels=str(2**31 - 1), probesize="32") as again:
            pixels = _pixels(again)
    if any(size > limits.pixels for size in pixels):
        raise MediaError("media_too_large", f"The picture is larger than {limits.pixels} pixels.")


def _pixels(container: InputContainer) -> list[int]:
    return [s.width * s.height for s in container.streams.video if _known(s) and not _is_picture(s)]


def _spans(container: InputContainer) -> dict[int, _Span]:
    """Read every packet, decode none: about 1 µs a packet."""
    spans: dict[int, _Span] = {}
    try:
        for packet in container.demux():
            if packet.pts is None or packet.size == 0 or packet.time_base is None:
                continue
            start = float(packet.pts * packet.time_base)
            end = start + float((packet.duration or 0) * packet.time_base)
            span = spans.setdefault(packet.stream.index, _Span(start, end))
            span.start, span.end = min(span.start, start), max(span.end, end)
    except IndexError:  # from av, past the last packet, when a stream appeared that was not there at the beginning
        pass
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError("media_unreadable", "The file is damaged and cannot be read to its end.") from error
    return spans


def _audio_tracks(container: InputContainer) -> tuple[AudioFacts, ...]:
    streams = container.streams.audio
    if not streams:
        raise MediaError("no_audio_stream", "The file holds no sound.")
    tracks = tuple(_audio_facts(stream) for stream in streams if _decodable(stream))
    if not tracks:
        raise MediaError("unsupported_codec", "The sound is in a format that cannot be decoded.")
    return tracks


def _decodable(stream: AudioStream) -> bool:
    return _known(stream) and stream.rate > 0 and stream.channels > 0


def _known(stream: Stream) -> bool:
    """Whether there is a decoder; the type stubs of av say always, its code says not."""
    return getattr(stream, "codec_context", None) is not None


def _audio_facts(stream: AudioStream) -> AudioFacts:
    return AudioFacts(
        index=stream.index,
        codec=stream.codec_context.name,
        rate=stream.rate,
        channels=stream.channels,
        default=bool(stream.disposition & Disposition.default),
    )


def _is_picture(stream: Stream) -> bool:
    """Cover art is a video stream to libav, and no video to anybody else."""
    return bool(stream.disposition & Disposition.attached_pic)


def _video_facts(container: InputContainer) -> VideoFacts | None:
    for stream in container.streams.video:
        if not _is_picture(stream) and _known(stream):
            rate = stream.average_rate or stream.guessed_rate
            coded = stream.codec_context
            return VideoFacts(
                stream.index,
                coded.name,
                stream.width,
                stream.height,
                float(rate) if rate else 0.0,
                curve_of(coded.color_trc),
            )
    return None


def _check_complete(path: Path, container: InputContainer, spans: dict[int, _Span]) -> None:
    """Compare what the file claims to hold with what it holds. Raw MPEG audio, ADTS, Ogg and MPEG-TS claim nothing."""
    missing = containers.missing_share(path) > MISSING_SHARE
    for claimed, found in _claims(path, container, spans):
        missing = missing or claimed - found > max(MISSING_SECONDS, MISSING_SHARE * claimed)
    if missing:
        raise MediaError("truncated_file", "The file is cut off: it holds less than its own header says.")


def _claims(path: Path, container: InputContainer, spans: dict[int, _Span]) -> list[tuple[float, float]]:
    """Pairs of seconds (claimed, found)."""
    if _family(container) == "mov":  # each track has a length of its own; the file's may be that of a data track
        return [_track_claim(s, spans) for s in container.streams if isinstance(s, AudioStream | VideoStream)]
    claimed = _declared(path, container)
    end = max(span.end for span in spans.values())
    found = end if _family(container) == "matroska" else _measured(container, spans)
    return [(claimed, found)] if claimed else []


def _track_claim(stream: Stream, spans: dict[int, _Span]) -> tuple[float, float]:
    if stream.duration is None or stream.time_base is None or _is_picture(stream):
        return 0.0, 0.0
    span = spans.get(stream.index, _Span(0.0, 0.0))
    return float(stream.duration * stream.time_base), span.end - span.start


def _declared(path: Path, container: InputContainer) -> float:
    """The length that the container states in seconds; 0 where libav only estimates it from the bit rate."""
    family = _family(container)
    states = family in ("mov", "matroska", "wav", "w64", "flac", "aiff", "caf", "asf")
    if family == "mp3":
        states = containers.declares_mp3_length(path)
    return (container.duration or 0) / av.time_base if states else 0.0


def _length(path: Path, container: InputContainer, spans: dict[int, _Span]) -> float:
    """What ffmpeg states as the length of a Matroska file is the time of its end, also where it does not begin at 0:
    a piece of a longer recording does not."""
    if _family(container) == "matroska" and _start(container, spans) > MISSING_SECONDS:
        return _measured(container, spans)
    return _declared(path, container) or _measured(container, spans)


def _measured(container: InputContainer, spans: dict[int, _Span]) -> float:
    return max(span.end for span in spans.values()) - _start(container, spans)


def _start(container: InputContainer, spans: dict[int, _Span]) -> float:
    start: int | None = container.start_time
    if start is not None:
        return start / av.time_base
    return min(span.start for span in spans.values())


def _family(container: InputContainer) -> str:
    return container.format.name.partition(",")[0]


def _facts(
    path: Path, container: InputContainer, spans: dict[int, _Span], tracks: tuple[AudioFacts, ...], size: int
) -> MediaFacts:
    chosen = next((track for track in tracks if track.default), tracks[0]) if tracks else None
    video = _video_facts(container)
    span = spans.get(chosen.index) if chosen else None
    if chosen and span is None:
        raise MediaError("media_unreadable", "The sound track of the file is empty.")
    return MediaFacts(
        container=_family(container),
        media_type=_media_type(_family(container), path, video is not None),
        bytes=size,
        duration=round(_length(path, container, spans), 3),
        audio=tracks,
        audio_index=chosen.index if chosen else -1,
        audio_seconds=round(span.end - _start(container, spans), 3) if span else 0.0,
        video=video,
    )


def _media_type(family: str, path: Path, has_video: bool) -> str:
    kind = "video" if has_video else "audio"
    if family == "matroska" and b"webm" in containers.read_head(path, 64):
        return f"{kind}/webm"
    return f"{kind}/{MEDIA_TYPES.get(family, family)}"


def _check_length(seconds: float, limits: Limits) -> None:
    if seconds < limits.min_seconds:
        raise MediaError("media_too_short", f"The file is shorter than {limits.min_seconds:g} s.")
    if seconds > limits.max_seconds:
        raise MediaError("media_too_large", f"The file is longer than {limits.max_seconds:g} s.")
