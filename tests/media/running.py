"""Running the stages of a pipeline in one process, as the engine would: in order, through JSON in between."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any

import jiwer
import msgspec

from callsheet.pipelines.declare import InputFile, Pipeline, StageOutput

IN_OPEN, IN_NONBLOCK = 0x20, 0o4000  # <sys/inotify.h>


class RecordingContext:
    """A StageContext that keeps all it is told."""

    def __init__(self, root: Path, stage: str, params: Any, source: InputFile, data: dict[str, Any]) -> None:
        self.root, self.params, self.input, self.item = root, params, source, None
        self.folder = root / stage
        self.ledger = root / "ledger"
        self.folder.mkdir(parents=True)
        self.published = data
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self.partials: list[dict[str, Any]] = []

    def file(self, stage: str, name: str) -> Path:
        return self.root / stage / name

    def data(self, stage: str) -> dict[str, Any]:
        found: dict[str, Any] = self.published[stage]
        return found

    def instances(self, stage: str) -> tuple[str, ...]:
        return (stage,)

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def partial(self, data: dict[str, Any]) -> None:
        self.partials.append(data)


class Run(msgspec.Struct):
    """A pipeline that was run from its first stage to its last."""

    root: Path
    outputs: dict[str, StageOutput]
    contexts: dict[str, RecordingContext]
    result: dict[str, Any]

    def artifact(self, name: str) -> Path:
        return self.root / "artifacts" / name


def run_pipeline(pipeline: Pipeline, path: Path, root: Path, params: Any) -> Run:
    """Run every stage in the order of its declaration."""
    source = InputFile(path, path.name, "application/octet-stream", path.stat().st_size)
    run = Run(root, {}, {}, {})
    data: dict[str, Any] = {}
    for declared in pipeline.stages:
        name = declared.spec.name
        context = run.contexts[name] = RecordingContext(root, name, params, source, data)
        output = run.outputs[name] = declared.run(context)
        data[name] = msgspec.json.decode(msgspec.json.encode(output.data))
        run.result |= msgspec.json.decode(msgspec.json.encode(output.result))
    return run


def normal(text: str) -> str:
    """A text without case, punctuation and hyphens: what word error rates are counted on."""
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())


def word_error_rate(reference: str, heard: str) -> float:
    return float(jiwer.wer(normal(reference), normal(heard)))


class OpenWatch:
    """Tells whether a file was opened by anybody, this process's C libraries and children included (inotify)."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = libc.inotify_init1(IN_NONBLOCK)
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(path), IN_OPEN) >= 0

    def opened(self) -> bool:
        try:
            return bool(os.read(self.descriptor, 4096))
        except BlockingIOError:
            return False
