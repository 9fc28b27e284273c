"""Files made to hurt: scripts that name other files, dressed as media, and media too large to look into.

ARMED are scripts that an ffmpeg without our guard obeys, which a test shows: what is not touched in the others is
not touched because of the guard.
"""

from __future__ import annotations

import base64
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from callsheet.media import ffmpeg
from tests.canary import Canary

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n{key}#EXTINF:10,\n{segment}\n#EXT-X-ENDLIST\n"
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT5S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/mp4" contentType="audio">
<Representation id="1" bandwidth="100000" codecs="mp4a.40.2"><BaseURL>{0}</BaseURL>
<SegmentBase indexRange="0-1"/></Representation></AdaptationSet></Period></MPD>
"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {0} RTP/AVP 0\n"
_AS_HLS = ("-f", "hls", "-allowed_extensions", "ALL", "-extension_picky", "0")
ARMED = {
    "hls to a file": (*_AS_HLS, "file"),
    "hls to a port": (*_AS_HLS, "tcp"),
    "hls of data": (*_AS_HLS, "file"),  # its key
    "concat": ("-safe", "0", "file"),
    "concat of a relative name": ("-safe", "0", "file"),
    "concat to a port": ("-safe", "0", "tcp"),
    "dash to a port": ("-f", "dash", "tcp"),
}
NO_TEXTS = ("avi with a playlist",)
TONE = ("-f", "lavfi", "-i", "sine=440:duration=2")


def scripts(canary: Canary) -> dict[str, bytes]:
    """Each as it would be uploaded, by what it is."""
    file, url = canary.file, canary.url
    sound = base64.b64encode(file.read_bytes()[:4096]).decode()
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="file://{file}"\n'
    texts = {
        "hls to a file": HLS.format(key="", segment=file),
        "hls to a port": HLS.format(key="", segment=url),
        "hls to a subfile": HLS.format(key="", segment=f"subfile,,start,0,end,4096,,:{file}"),
        "hls of data": HLS.format(key=key, segment=f"data:audio/wav;base64,{sound}"),
        "concat": f"ffconcat version 1.0\nfile '{file}'\n",
        "concat of a relative name": f"ffconcat version 1.0\nfile {file.name}\n",
        "concat to a port": f"ffconcat version 1.0\nfile '{url}'\n",
        "dash to a file": MPD.format(f"file://{file}"),
        "dash to a port": MPD.format(url),
        "sdp": SDP.format(canary.port),
        "subfile": f"subfile,,start,0,end,4096,,:{file}",
        "data": f"data:audio/wav;base64,{sound}",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{file}"/><image href="{url}"/></svg>',
    }
    return {name: text.encode() for name, text in texts.items()} | dict.fromkeys(NO_TEXTS, _avi(canary))


def _avi(canary: Canary) -> bytes:
    """An AVI whose first packet is a subtitle file (GAB2) that is a playlist."""
    path = canary.file.with_name("plain.avi")
    run(path, *TONE, "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=2")
    content = path.read_bytes()
    path.unlink()
    bait = b"GAB2\0\2\0\0\0\0\0\4\0\0\0\0\0" + HLS.format(key="", segment=canary.file).encode()
    at = content.index(b"movi") + 12
    return content[:at] + bait + content[at + len(bait) :]


def huge_picture(path: Path) -> None:
    """16,000 x 16,000 pixels, in a few hundred kilobytes."""
    picture = ("-f", "lavfi", "-i", "color=size=16000x16000:rate=1")
    run(path, *picture, *TONE, "-c:v", "mjpeg", "-frames:v", "1", "-t", "2")


def far_apart(path: Path) -> None:
    """Two frames, 90,000 seconds apart."""
    sparse = ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=1:duration=2,setpts=PTS*90000", "-fps_mode", "passthrough")
    run(path, *TONE, *sparse, "-c:v", "mjpeg")


def many_streams(path: Path) -> None:
    """400 tracks."""
    tone = path.with_name("tone.wav")
    run(tone, *TONE, "-ar", "8000")
    run(path, "-i", str(tone), *("-map", "0:a") * 400, "-c", "copy")


def bomb(path: Path, size: int = 1 << 28) -> None:
    """A QuickTime file whose compressed index becomes a quarter of a gigabyte, a thousand times as much as was sent."""
    packer = zlib.compressobj()
    packed = packer.compress(struct.pack(">I4sI4s", size, b"moov", size - 8, b"free"))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    index = _box(b"cmov", _box(b"dcom", b"zlib") + _box(b"cmvd", struct.pack(">I", size) + packed))
    path.write_bytes(_box(b"ftyp", b"qt  \0\0\2\0qt  ") + _box(b"moov", index) + _box(b"mdat", bytes(1000)))


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


# What is too large, by what it is: how it is made, what it is called, and the reason that is given for refusing it.
TOO_LARGE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "16,000 x 16,000": (huge_picture, "picture.mkv", "media_too_large"),
    "two frames 90,000 s apart": (far_apart, "sparse.mkv", "media_too_large"),
    "400 streams": (many_streams, "streams.mkv", "media_too_large"),
    "a bomb": (bomb, "bomb.mov", "media_too_large"),
}


def run(path: Path, *arguments: str) -> None:
    """Make a file with ffmpeg."""
    command = [ffmpeg.binary(), "-nostdin", "-v", "error", "-y", *arguments, str(path)]
    subprocess.run(command, check=True, timeout=100)


SCRIPTS = (
    *("hls to a file", "hls to a port", "hls to a subfile", "hls of data", "concat", "concat of a relative name"),
    *("concat to a port", "dash to a file", "dash to a port", "sdp", "subfile", "data", "svg", "avi with a playlist"),
)
