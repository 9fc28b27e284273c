"""Which containers are opened, and what their own headers claim. Everything that opens an upload goes through here.

Allowed are formats that carry all their data within themselves. Playlists and scripts (HLS, DASH, concat, SDP, image
sequences ...) are instructions to open *other* files, so their demuxers are not in the list and libav refuses them,
whatever the file is called. The file is handed over as an open stream without a name and with no protocol allowed:
no name can sway the guess, and nothing else can be opened from within.
"""

from __future__ import annotations

import codecs
import contextlib
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import av
import av.error
from av.container import InputContainer

from callsheet.media.errors import MediaError
from callsheet.media.limits import Limits, current

# Demuxer names of libavformat; a comma within a name counts as a list of aliases there, so joining is safe.
ALLOWED = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpegts", "mpeg", "asf"),
    *("wav", "w64", "flac", "mp3", "ogg", "aac", "aiff", "caf", "amr", "au"),
)
FORMAT_WHITELIST = ",".join(ALLOWED)
UNKNOWN_LENGTH = 0x7FFF_F000  # writers to a pipe put 0, or something from here up, where a length belongs
HEAD = 1 << 20
TEXT = 4096  # bytes that tell a text
MAX_INDEX = 64 << 20  # bytes; that of four hours of video at 60 frames a second has about 20 MB
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_PACKED_INDEX = re.compile(rb"dcomzlib.{4}cmvd(.{4})", re.DOTALL)


@contextlib.contextmanager
def open_media(path: Path, limits: Limits | None = None, **more: str) -> Iterator[InputContainer]:
    """Open an upload for reading; `more` are options of libav that go before these.

    MediaError: unsupported_container, media_unreadable, media_too_large.
    """
    limits = limits or current()
    options = {
        "format_whitelist": FORMAT_WHITELIST,
        "protocol_whitelist": "none",
        "max_streams": str(limits.streams + 1),
        "max_pixels": str(limits.pixels),
    } | more
    with path.open("rb") as stream:
        try:
            container = av.open(stream, options=options, metadata_errors="replace")
        except MemoryError as error:
            raise too_many_streams(limits) from error
        except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
            raise refuse(path) from error
        with container:
            yield cast(InputContainer, container)


def too_many_streams(limits: Limits) -> MediaError:
    """The error for more tracks than are allowed."""
    return MediaError("media_too_large", f"The file has more than {limits.streams} streams.")


def refuse(path: Path) -> MediaError:
    """The error for a file that does not open: damaged if it starts like media, else not media at all."""
    if looks_like_media(read_head(path, 64)):
        return MediaError("media_unreadable", "The file is damaged or cut off, and cannot be read.")
    return MediaError("unsupported_container", "This is not an audio or video file that can be taken.")


def read_head(path: Path, size: int = HEAD) -> bytes:
    """The first `size` bytes."""
    with path.open("rb") as stream:
        return stream.read(size)


def looks_like_media(head: bytes) -> bool:
    """Whether the first bytes are the signature of an allowed container."""
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] in (b"WAVE", b"AVI ")
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return True
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return True  # MPEG audio and ADTS frames begin with 11 ones
    return head.startswith(
        (
            *(b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"FORM", b"FLV", b"caff", b".snd", b"#!AMR", b"riff"),
            *(b"\x00\x00\x01\xba", b"\x47\x40", b"\x30\x26\xb2\x75"),
        )
    )


def why_no_media(head: bytes) -> str | None:
    """Why a file that begins like this is plainly no audio or video; None if it may be, which opening it will tell.

    A text never is: that is what playlists, scripts and pages are.
    """
    if hides_playlist(head):
        return "it holds a playlist"
    return "it is a text, not audio or video" if not looks_like_media(head) and _is_text(head[:TEXT]) else None


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters (but for the last character, which may be cut in two)."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def hides_playlist(head: bytes) -> bool:
    """Whether an AVI carries a GAB2 block: text that old libav versions opened as a file of its own."""
    return head[:4] == b"RIFF" and head[8:12] == b"AVI " and b"GAB2" in head


def packed_index(path: Path) -> int:
    """The bytes that the compressed index of a QuickTime file (`cmov`) claims to become, the most if there are several;
    0 without one. libav takes that much memory and unpacks it, as soon as it opens the file."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return max((int.from_bytes(found[1]) for found in _PACKED_INDEX.finditer(content)), default=0)


def declares_mp3_length(path: Path) -> bool:
    """Whether an MP3 says how long it is (a Xing, Info or VBRI header in its first frame), after any ID3v2 tag."""
    with path.open("rb") as stream:
        tag = stream.read(10)
        skip = 0
        if tag[:3] == b"ID3" and len(tag) == 10:
            skip = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        stream.seek(skip)
        frame = stream.read(4096)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def missing_share(path: Path) -> float:
    """The share (0..1) of its bytes that a chunked file claims but does not have.

    Walks the top-level chunks of RIFF (WAV, AVI: Microsoft, Multimedia Programming Interface 1.0), IFF (AIFF: EA IFF
    85) and ISO base media (MP4: ISO/IEC 14496-12, 4.2). 0 for other containers, and where a length was left open.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        claimed = _claimed_end(stream, size)
    return max(0, claimed - size) / claimed if claimed else 0.0


def _claimed_end(stream: BinaryIO, size: int) -> int:
    """The offset at which the first chunk that does not fit would end, else 0."""
    head = stream.read(12)
    if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI "):
        return _walk_iff(stream, size, "<4sI")
    if head[:4] == b"FORM":
        return _walk_iff(stream, size, ">4sI")
    if looks_like_media(head) and head[4:8].isalpha():
        return _walk_boxes(stream, size)
    return 0


def _walk_iff(stream: BinaryIO, size: int, layout: str) -> int:
    position = 12
    while position + 8 <= size:
        stream.seek(position)
        name: bytes
        length: int
        name, length = struct.unpack(layout, stream.read(8))
        if name == b"data" and (length == 0 or length >= UNKNOWN_LENGTH):
            return 0
        position += 8 + length
        if position > size:
            return position
        position += length & 1  # chunks are padded to an even length
    return 0


def _walk_boxes(stream: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        stream.seek(position)
        header = stream.read(16).ljust(16, b"\0")
        length: int = struct.unpack(">I", header[:4])[0]
        if length == 1:
            length = struct.unpack(">Q", header[8:])[0]
        if length < 8:  # 0 means "to the end of the file"; anything else is no box
            return 0
        position += length
    return position if position > size else 0


def file_size(path: Path) -> int:
    """Bytes, with the errors that need no look inside. MediaError: empty_file."""
    size = path.stat().st_size
    if size == 0:
        raise MediaError("empty_file", "The file is empty.")
    return size
