"""What the media tests share: a models folder, the fixtures that hold speech, and files made by ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from callsheet.media import audio, ffmpeg, weights
from callsheet.media.probe import probe

FIXTURES = Path(__file__).parent.parent / "fixtures"
Make = Callable[..., Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder of this test run, where `base` is put together once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def base_model(models: Path) -> Path:
    return weights.model_folder("base", models, offline=True)


@pytest.fixture(autouse=True)
def _offline_models(models: Path) -> None:
    weights.configure(models, offline=True)


@pytest.fixture
def austen() -> Path:
    """Twenty-five seconds of a novel, read aloud (WAV, 16 kHz mono)."""
    return FIXTURES / "speech_librivox_austen" / "austen_joined.wav"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a file with ffmpeg: `make("name.mp4", *arguments)`."""

    def run(name: str, *arguments: str | Path) -> Path:
        target = tmp_path / name
        command = [ffmpeg.binary(), "-nostdin", "-v", "error", "-y", *map(str, arguments), str(target)]
        subprocess.run(command, check=True, timeout=100)
        return target

    return run


@pytest.fixture
def speech_wav(tmp_path: Path) -> Callable[[Path], Path]:
    """Any media file as the 16 kHz mono WAV that recognition reads."""

    def convert(source: Path) -> Path:
        target = tmp_path / "speech.wav"
        audio.to_speech_wav(source, probe(source), target)
        return target

    return convert
