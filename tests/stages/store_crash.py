"""Publishes three files and is killed in the middle: `python -m tests.stages.store_crash ROOT PLACE WORK`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.store import ArtifactStore
from tests.object_store import open_store_at
from tests.stages.store_conformance import publish


def die(*_: Any, **_more: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def doomed_folder(root: Path) -> ArtifactStore:
    """Killed when all is ready but for the last step."""
    store = FolderStore(root)
    store._move_into_place = die  # type: ignore[method-assign]
    return store


def doomed_bucket(root: Path, place: str) -> ArtifactStore:
    """Killed when one file of three is in the bucket."""
    store = open_store_at(place, root)
    put = store._put
    store._put = lambda key, *more: die() if key.endswith("/b") else put(key, *more)
    return store


if __name__ == "__main__":
    root, place, work = sys.argv[1:]
    doomed = doomed_bucket(Path(root), place) if place else doomed_folder(Path(root))
    publish(doomed, Path(work), "7-a", a=b"1", b=b"2", c=b"3")
