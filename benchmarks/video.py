"""A film restyled, and cut into clips, over HTTP; the same commands to ffmpeg by hand; and a film of two hours."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.commands import Command, noted, typed
from benchmarks.figures import Figure
from benchmarks.processes import own_bytes
from benchmarks.speech import FIXTURE, looped, through_the_pipeline
from benchmarks.stand import Running, Stand, until
from benchmarks.watchers import answers
from callsheet.actors.stages.local_run import LocalRun
from callsheet.media import ffmpeg, weights
from callsheet.pipelines import restyle, shorts
from callsheet.pipelines.declare import Pipeline
from tests.house.running import free_port

LOOK = {"mode": "look", "look": "warm"}
CLIPS: dict[str, Any] = {"target_clips": 2, "clip_min_seconds": 10, "clip_max_seconds": 12}
CLIPS |= {"output_format": "horizontal", "hook": False}
SECONDS = 30  # of film
TURNS = 6
CORES = 2  # stages at once, and hands


def run(stand: Stand) -> list[Figure]:
    """Clips keep the film's shape and have no title: following faces, and keeping it off them, have no counterpart by
    hand."""
    film, port = filmed(stand), free_port()
    weights.configure(stand.folder / "data" / "models")
    wanted = CLIPS | ({"target_clips": 1, "clip_min_seconds": 5} if stand.quick else {})
    by_hand = {
        "restyle": _commands(stand, restyle.pipeline, film, LOOK, "render"),
        "shorts": _commands(stand, shorts.pipeline, film, wanted, "clip"),
    }
    figures: list[Figure] = []
    with (
        stand.flush(),
        stand.role("host"),
        stand.role("worker", "--queue", "cpu", "--queue", "io", "--concurrency", str(CORES), reuse="off") as worker,
        stand.role("api", port=port) as api,
    ):
        until(lambda: answers(port), "the API is ready", api, every=0.1)
        for name, params, stage in (("restyle", LOOK, "render"), ("shorts", wanted, "clip")):
            run_it = partial(_piped, port, film, name, params, stage)
            ours, hand = _in_turn(run_it, partial(typed, by_hand[name], film, CORES), quick=stand.quick)
            figures += _compared(f"{name}: {_WHAT[name]}", ours, hand)
        figures += [] if stand.quick else [_two_hours(stand, port, worker)]
    return figures


def _in_turn(
    ours: Callable[[], float], hand: Callable[[], float], *, quick: bool
) -> tuple[Sequence[float], Sequence[float]]:
    """The seconds of each, measured in pairs, now the one first and now the other; the first pair warms up."""
    pairs = []
    for turn in range(1 if quick else 1 + TURNS):
        if turn % 2:
            pairs.append((ours(), hand()))
        else:
            by_hand = hand()
            pairs.append((ours(), by_hand))
    first, second = zip(*(pairs if quick else pairs[1:]), strict=True)
    return first, second


def _piped(port: int, film: Path, pipeline: str, params: dict[str, Any], stage: str) -> float:
    _, job = through_the_pipeline(port, film, pipeline, params)
    return _lasted(job, stage)


_WHAT = {"restyle": "a colour look", "shorts": "two clips, captioned and levelled"}


def _compared(name: str, ours: Sequence[float], hand: Sequence[float]) -> list[Figure]:
    overhead = tuple(100 * (mine / his - 1) for mine, his in zip(ours, hand, strict=True))
    return [
        Figure(name, "s", tuple(ours), note="from the first stage that renders to the end of the last"),
        Figure(f"{name}: by hand", "s", tuple(hand), note=f"the same commands, {CORES} stages' at a time"),
        Figure(f"{name}: the pipeline takes longer by", "%", overhead, 5, "at most"),
    ]


def filmed(stand: Stand) -> Path:
    """The recording of the tests, again and again, with moving pictures of 720 lines."""
    sound, film = FIXTURE if stand.quick else looped(stand), stand.folder / "film.mp4"
    size = "320x180" if stand.quick else "1280x720"
    picture = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25")
    sources = ("-i", str(sound), *picture, "-shortest", "-t", str(SECONDS))
    _make(*sources, "-c:v", "libx264", "-preset", "ultrafast", str(film))
    return film


def _make(*arguments: str) -> None:
    subprocess.run([ffmpeg.binary(), "-nostdin", "-v", "error", "-y", *arguments], check=True)


def _commands(stand: Stand, pipeline: Pipeline, film: Path, params: dict[str, Any], stage: str) -> list[Command]:
    """What that stage of the pipeline asks of ffmpeg, in a run of it by itself."""
    root = stand.folder / f"alone-{pipeline.name}"
    with noted(root / "noted") as commands:
        job = LocalRun(pipeline, root, lambda _stage, _said: None).run(film, params)
    assert job.status == "completed", job.error
    return [command for command in commands if command.stage.partition("-")[2].partition(".")[0] == stage]


def _lasted(job: dict[str, Any], stage: str) -> float:
    own = [s for s in job["stages"] if s["name"].partition(":")[0] == stage]
    begun = min(datetime.fromisoformat(s["started_at"]) for s in own)
    return (max(datetime.fromisoformat(s["ended_at"]) for s in own) - begun).total_seconds()


def _two_hours(stand: Stand, port: int, worker: Running) -> Figure:
    """The most memory that the worker and its stages take, all together, while a long film becomes clips."""
    film = stand.folder / "long.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=10:duration=7200")
    sound = ("-f", "lavfi", "-i", "sine=440:duration=7200:sample_rate=16000")
    _make(*picture, *sound, "-c:v", "libx264", "-preset", "ultrafast", str(film))
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            most[0] = max(most[0], own_bytes(worker.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        through_the_pipeline(port, film, "shorts", CLIPS)
    finally:
        over.set()
        watching.join()
    return Figure("shorts of two hours: worker and stages, most memory", "MiB", (most[0] / 2**20,), 4096, "at most")
