"""What the tests of pictures ask of a video: its frames' times, its sound, a picture of it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from callsheet.media import ffmpeg
from callsheet.media.limits import Limits
from callsheet.media.probe import MediaFacts, probe

SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=2")
CODEC = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest")


def scene(size: str = "160x120", rate: int = 10, seconds: float = 2) -> tuple[str, ...]:
    """An input of ffmpeg: a picture that moves."""
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def facts_of(path: Path) -> MediaFacts:
    """What a probe finds, however short the file is."""
    return probe(path, Limits(min_seconds=0.01), need_sound=False)


def times(path: Path) -> list[float]:
    """When each frame is shown, in seconds, from the first one."""
    with av.open(str(path)) as container:
        found = [float(frame.time) for frame in container.decode(video=0)]
    return [time - found[0] for time in found]


def sound(path: Path) -> tuple[int, str]:
    """How many samples its first track decodes to, and their digest."""
    command = [ffmpeg.binary(), "-v", "error", "-i", str(path), "-map", "0:a:0", "-f", "s16le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=100).stdout
    return len(raw), hashlib.sha256(raw).hexdigest()


def picture(path: Path, at: float = 0.5) -> npt.NDArray[np.uint8]:
    """A frame as it is shown, blue, green, red."""
    command = [ffmpeg.binary(), "-v", "error", "-ss", str(at), "-i", str(path), "-frames:v", "1"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=100).stdout
    _, width, height = raw.split(maxsplit=3)[:3]
    pixels = np.frombuffer(raw[-int(width) * int(height) * 3 :], np.uint8)
    return pixels.reshape(int(height), int(width), 3)[:, :, ::-1]
