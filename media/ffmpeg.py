"""The one way to run ffmpeg: as a child that dies with its parent, has limits, and sees only the files it is given.

ffmpeg works in a fresh folder beside its output, where inputs are links with names chosen here and the output has a
temporary name: no name of a user's file is ever an argument, and a half-written output is never seen.
"""

from __future__ import annotations

import collections
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Literal, cast

import imageio_ffmpeg
import msgspec

from callsheet.media.containers import FORMAT_WHITELIST
from callsheet.media.errors import FULL, MediaError, no_room
from callsheet.media.limits import current

LAUNCHER = Path(__file__).with_name("launch.py")
Progress = Callable[[float], None]
FULL_EXITS = tuple(256 - number for number in FULL)  # it ends with the lowest byte of its error code, -errno
EXIT_BY_SIGNAL = 255  # ffmpeg catches SIGXCPU (as SIGTERM and SIGINT, which nobody here sends) and ends with this
TAIL_LINES = 60
TAIL_WIDTH = 400


class Input(msgspec.Struct, frozen=True):
    """A file to read. `options` go before its `-i` (such as `-ss 3`). `trusted` files are our own: any demuxer may
    read them. `name` is what filters call it, where it matters (`subtitles=captions.ass`); it must be a plain name."""

    path: Path
    options: tuple[str, ...] = ()
    trusted: bool = False
    name: str = ""
    is_input: bool = True


class ChildLimits(msgspec.Struct, frozen=True):
    """What the child may use: bytes of address space, seconds of CPU (all threads), bytes and seconds of output."""

    memory: int = 4 << 30
    cpu_seconds: int = 4 * 3600
    output_bytes: int = 2 << 30
    output_seconds: float = 4 * 3600.0 + 60.0


def run(
    inputs: Sequence[Input],
    options: Sequence[str],
    output: Path | None,
    *,
    duration: float = 0.0,
    progress: Progress | None = None,
    limits: ChildLimits | None = None,
    log: Literal["error", "info"] = "error",
) -> str:
    """Run ffmpeg and give back the tail of what it said; with `output=None` its output is only measured, not kept.

    `duration` (seconds of output expected) scales `progress`, which gets fractions 0..1. The suffix of `output` chooses
    the container unless `-f` does. MediaError: storage_full; conversion_failed, its note (`__notes__`) holds the tail,
    without paths.
    """
    limits = limits or ChildLimits()
    parent = output.parent if output else None
    with tempfile.TemporaryDirectory(prefix=".ffmpeg-", dir=parent) as name:
        folder = Path(name)
        produced = folder / f"out{output.suffix}" if output else None
        arguments = _arguments(_link(inputs, folder), options, produced, limits, log)
        tail = _supervise(arguments, folder, limits, duration, progress)
        if output and produced:
            produced.replace(output)
    return tail


@functools.cache
def binary() -> str:
    """The ffmpeg that the imageio-ffmpeg wheel carries."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _link(inputs: Sequence[Input], folder: Path) -> list[tuple[Input, str]]:
    named = []
    for number, source in enumerate(inputs):
        name = source.name or f"in{number}"
        (folder / name).symlink_to(source.path.resolve())
        named.append((source, name))
    return named


def _arguments(
    inputs: list[tuple[Input, str]], options: Sequence[str], output: Path | None, limits: ChildLimits, log: str
) -> list[str]:
    arguments = [binary(), "-nostdin", "-hide_banner", "-nostats", "-v", log, "-y"]
    arguments += ["-progress", "pipe:1", "-stats_period", "0.25"]
    for source, name in inputs:
        if source.is_input:
            arguments += [*_guard(source.trusted), *source.options, "-i", f"file:./{name}"]
    arguments += [*options, "-t", f"{limits.output_seconds:.3f}", "-fs", str(limits.output_bytes)]
    return arguments + ([f"file:./{output.name}"] if output else ["-f", "null", "-"])


def _guard(trusted: bool) -> list[str]:
    bounds = current()
    guard = ["-protocol_whitelist", "file,pipe"]
    if not trusted:
        guard += ["-format_whitelist", FORMAT_WHITELIST]
    return [*guard, "-max_pixels", str(bounds.pixels), "-max_streams", str(bounds.streams)]


def _launch(arguments: list[str], folder: Path, limits: ChildLimits) -> subprocess.Popen[str]:
    """Start it in this process's group (which is what a stage is stopped by), under the launcher's conditions."""
    slack = limits.output_bytes + (16 << 20)  # -fs stops politely first; the rlimit is for what does not
    bounds = (os.getpid(), limits.memory, slack, limits.cpu_seconds)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), *map(str, bounds), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={"LC_ALL": "C", "MALLOC_ARENA_MAX": "2"},  # arenas of many threads would eat the address space
    )


def _supervise(
    arguments: list[str], folder: Path, limits: ChildLimits, duration: float, progress: Progress | None
) -> str:
    child = _launch(arguments, folder, limits)
    stdout, stderr = cast(IO[str], child.stdout), cast(IO[str], child.stderr)
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    drain = threading.Thread(target=_drain, args=(stderr, tail), daemon=True)
    drain.start()
    try:
        _follow(stdout, duration, progress)
        code = child.wait()
    finally:  # also when `progress` raised: nothing of the child may be left
        child.kill()
        child.wait()
        drain.join()
        stdout.close()
        stderr.close()
    said = "\n".join(tail).replace(str(folder), ".")
    if code != 0:
        raise _failed(code, said)
    return said


def _drain(stream: IO[str], tail: collections.deque[str]) -> None:
    while line := stream.readline(TAIL_WIDTH):
        tail.append(line.rstrip())


def _follow(stream: IO[str], duration: float, progress: Progress | None) -> None:
    """Read `-progress` lines (`key=value`); `out_time_us` is the length written so far (`N/A` before any frame)."""
    for line in stream:
        key, _, value = line.strip().partition("=")
        if key == "out_time_us" and progress and duration > 0 and value.lstrip("-").isdigit():
            progress(min(1.0, max(0.0, int(value) / 1e6 / duration)))


def _failed(code: int, said: str) -> MediaError:
    if code in FULL_EXITS:
        return no_room()
    if code in (-signal.SIGXCPU, EXIT_BY_SIGNAL):
        message = "Converting the file needed more processor time than is allowed."
    elif code < 0:
        message = f"The converter was stopped by signal {-code}."
    else:
        message = "The file could not be converted."
    error = MediaError("conversion_failed", message, retryable=code == -signal.SIGKILL)
    error.add_note(said)
    return error
