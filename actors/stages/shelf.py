"""The files that a stage reads, on this machine: where they lie, or fetched from a store that is elsewhere.

Fetching happens in the stage child, when a file is first asked for: a cancelled stage stops fetching as it stops
everything, what was fetched goes with its work folder, and what no stage looks at is never moved.
"""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from callsheet.actors.stores.store import Place, Remote
from callsheet.pipelines.declare import StageError

if TYPE_CHECKING:
    import httpx

TRIES = 3
PAUSE = 0.3  # seconds between two tries; a stage that fails for now is run again later
SECONDS = 30.0  # without a byte
PIECE = 1 << 20


class Shelf:
    """The files of one run that were fetched, under `folder`. May be used by any thread of a stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".fetched"
        self._paths: dict[str, Path] = {}
        self._lock = threading.Lock()

    def bring(self, place: Place, name: str) -> Path:
        """The file as a path. Raises StageError, a retryable one, if it cannot be had whole."""
        if isinstance(place, str):
            return Path(place)
        with self._lock:
            if place.url not in self._paths:
                target = self._folder / str(len(self._paths)) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch(place, target)
                self._paths[place.url] = target
            return self._paths[place.url]


def fetch(remote: Remote, target: Path) -> None:
    """Get a file, and check it against its digest. Raises StageError."""
    import httpx  # noqa: PLC0415  (a tenth of a second that stages with files at hand do not pay)

    with httpx.Client(timeout=SECONDS) as client:
        for left in reversed(range(TRIES)):
            try:
                sha256 = _download(client, remote, target)
            except (httpx.HTTPError, httpx.InvalidURL) as error:  # their text may hold the address, and its signature
                why = type(error).__name__
            else:
                if sha256 == remote.sha256:
                    return
                why = "it is not what was stored"
            target.unlink(missing_ok=True)
            if left == 0:
                raise StageError("store_unavailable", f"A file of the job could not be fetched: {why}.", retryable=True)
            time.sleep(PAUSE)


def _download(client: httpx.Client, remote: Remote, target: Path) -> str:
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", remote.url, headers={"Accept-Encoding": "identity"}) as answer, target.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_raw(PIECE):
            size += len(piece)
            if size > remote.bytes:
                break
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()
