"""What the media tests share: the fixtures that hold speech, files made by ffmpeg, and a context to run stages in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callsheet.media import ffmpeg, weights
from callsheet.pipelines.declare import InputFile, Pipeline, StageOutput

FIXTURES = Path(__file__).parent.parent / "fixtures"
JFK = FIXTURES / "speech_jfk" / "jfk.flac"
AUSTEN = FIXTURES / "speech_librivox_austen" / "austen_joined.wav"


class RecordingContext:
    """A StageContext that keeps all it is told."""

    def __init__(self, root: Path, stage: str, params: Any, source: InputFile, data: dict[str, Any]) -> None:
        self.root, self.params, self.input, self.item = root, params, source, None
        self.folder = root / stage
        self.folder.mkdir()
        self.published = data
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self.partials: list[dict[str, Any]] = []

    def file(self, stage: str, name: str) -> Path:
        return self.root / stage / name

    def data(self, stage: str) -> dict[str, Any]:
        return self.published[stage]

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def partial(self, data: dict[str, Any]) -> None:
        self.partials.append(data)


class Run(msgspec.Struct):
    """A pipeline that was run from its first stage to its last, in one process."""

    root: Path
    outputs: dict[str, StageOutput]
    contexts: dict[str, RecordingContext]
    result: dict[str, Any]


def run_pipeline(pipeline: Pipeline, path: Path, root: Path, params: Any) -> Run:
    """Run every stage in order, through JSON in between, as the engine does."""
    source = InputFile(path, path.name, "application/octet-stream", path.stat().st_size)
    run = Run(root, {}, {}, {})
    data: dict[str, Any] = {}
    for declared in pipeline.stages:
        name = declared.spec.name
        context = RecordingContext(root, name, params, source, data)
        run.contexts[name] = context
        output = run.outputs[name] = declared.run(context)
        data[name] = msgspec.json.decode(msgspec.json.encode(output.data))
        run.result |= msgspec.json.decode(msgspec.json.encode(output.result))
    return run


@pytest.fixture(scope="session", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder of this test run."""
    folder = tmp_path_factory.mktemp("models")
    weights.configure(folder, offline=True)
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Make a file with ffmpeg: `make("name.mp4", *arguments)`."""

    def run(name: str, *arguments: str | Path) -> Path:
        target = tmp_path / name
        command = [ffmpeg.binary(), "-nostdin", "-v", "error", "-y", *map(str, arguments), str(target)]
        subprocess.run(command, check=True, timeout=60)
        return target

    return run


@pytest.fixture
def jfk() -> Path:
    return JFK


@pytest.fixture
def austen() -> Path:
    return AUSTEN
