"""The commands that a pipeline gives ffmpeg: noted down in one run of it, and typed again by hand, again and again."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from callsheet.media import ffmpeg


class Command(NamedTuple):
    """One command: what it reads (our own copies of what would be gone), its options, where it wrote."""

    stage: str
    inputs: Sequence[ffmpeg.Input]
    options: Sequence[str]
    output: Path | None
    log: str


@contextmanager
def noted(folder: Path) -> Iterator[list[Command]]:
    """The commands that stages of this process give meanwhile; what they read beside films is kept in `folder`."""
    commands: list[Command] = []
    original = ffmpeg.run

    def note(inputs: Sequence[ffmpeg.Input], options: Sequence[str], output: Path | None, **more: Any) -> str:
        kept = [_kept(one, folder / f"{len(commands)}") for one in inputs]
        commands.append(Command(Path.cwd().name, kept, options, output, more.get("log", "error")))
        return original(inputs, options, output, **more)

    ffmpeg.run = note
    try:
        yield commands
    finally:
        ffmpeg.run = original


def _kept(one: ffmpeg.Input, folder: Path) -> ffmpeg.Input:
    if one.is_input:
        return one
    target = folder / one.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if one.path.is_dir():
        shutil.copytree(one.path, target)
    else:
        shutil.copyfile(one.path, target)
    return ffmpeg.Input(target, name=one.name, is_input=False)


def typed(commands: Sequence[Command], source: Path, at_once: int) -> float:
    """The seconds it takes to give these commands again, over `source`: each stage's in their order, `at_once` stages
    at a time."""
    stages: dict[str, list[Command]] = {}
    for command in commands:
        stages.setdefault(command.stage, []).append(command)
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as hands:
        for _ in hands.map(lambda own: _type(own, source), stages.values()):
            pass
    return time.perf_counter() - begun


def _type(commands: Sequence[Command], source: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        made: dict[Path, Path] = {}
        for number, command in enumerate(commands):
            folder = Path(name) / f"{number}"
            folder.mkdir()
            arguments = [ffmpeg.binary(), "-nostdin", "-hide_banner", "-nostats", "-v", command.log, "-y"]
            for n, one in enumerate(command.inputs):
                link = one.name or f"in{n}"
                (folder / link).symlink_to(made.get(one.path, one.path if not one.is_input else source))
                arguments += [*one.options, "-i", link] if one.is_input else []
            output = folder / f"out{command.output.suffix}" if command.output else None
            arguments += [*command.options, *([output.name] if output else ["-f", "null", "-"])]
            subprocess.run(arguments, cwd=folder, stderr=subprocess.DEVNULL, check=True)
            if command.output and output:
                made[command.output] = output
