"""What was measured last, one file of JSON a benchmark."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.figures import Figure
from benchmarks.machine import Machine

BENCHES = {
    "mailbox": "Messages through one host",
    "ask": "Asking the owner of a job",
    "throughput": "Jobs of three empty stages, beside the peers",
    "watchers": "Events to watchers over SSE",
    "cancel": "From a cancel to the end of the stage's processes",
    "memory": "What a job weighs",
    "idle": "A service with nothing to do",
    "speech": "A transcription, and the same library by hand",
    "video": "A film restyled and cut into clips, and the same commands by hand",
}


class Result(msgspec.Struct, frozen=True):
    """One benchmark's figures, and when and where they were taken."""

    name: str
    machine: Machine
    load_after: float
    seconds: int
    figures: list[Figure]


def save(folder: Path, result: Result, *, quick: bool) -> None:
    """Keep it; a quick one apart, since it says nothing about speed."""
    target = folder / ("quick" if quick else "results")
    target.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(result), indent=2)
    (target / f"{result.name}.json").write_bytes(encoded)


def saved(folder: Path) -> list[Result]:
    """The results there are, in the order of the benchmarks."""
    files = [folder / "results" / f"{name}.json" for name in BENCHES]
    return [msgspec.json.decode(file.read_bytes(), type=Result) for file in files if file.exists()]
