"""A recording through the whole pipeline `transcribe`, over HTTP, and through the same library called by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import wave
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import httpx

from benchmarks.figures import Figure
from benchmarks.processes import cpu_seconds
from benchmarks.stand import ROOT, Stand, until
from benchmarks.watchers import answers
from callsheet.media import weights
from tests.house.running import free_port

FIXTURE = ROOT / "tests/fixtures/speech_librivox_austen/austen_joined.wav"
EXTRAS = ("quality", "artifacts")  # what the library alone does not do


def run(stand: Stand) -> list[Figure]:
    """In turn, each with its model loaded and warm."""
    recording, port = looped(stand), free_port()
    model = weights.model_folder("base", stand.folder / "data" / "models")
    ours, hand, more_cpu, extras, between = [], [], [], [], []
    hand_command = [sys.executable, "-m", "benchmarks.by_hand", str(model)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        stand.flush(),
        stand.role("host") as host,
        stand.role("worker", "--queue", "cpu", "--concurrency", "1", reuse="off") as worker,
        stand.role("api", port=port) as api,
        stand.process(hand_command, stand.peer_environment(), **pipes) as by_hand,
    ):
        until(lambda: answers(port), "the API is ready", api, every=0.1)
        for turn in range(stand.repeats + 1):
            cpu = [cpu_seconds(host.pid, worker.pid, api.pid), cpu_seconds(by_hand.pid)]
            seconds, job = through_the_pipeline(port, recording)
            alone = _ask(by_hand, recording)
            if turn > 0 or stand.quick:  # the first turn loads the models
                ours.append(seconds)
                hand.append(alone)
                mine, his = cpu_seconds(host.pid, worker.pid, api.pid) - cpu[0], cpu_seconds(by_hand.pid) - cpu[1]
                more_cpu.append(100 * (mine / his - 1))
                extras.append(sum(_lasted(s) for s in job["stages"] if s["name"] in EXTRAS))
                between.append(seconds - sum(_lasted(s) for s in job["stages"]))
            if stand.quick:
                break
    overhead = tuple(100 * (mine / his - 1) for mine, his in zip(ours, hand, strict=True))
    length = f"{_seconds(recording):.0f} s of speech, model `base`, beam 1, words with times"
    return [
        Figure("transcribe: the whole pipeline, over HTTP", "s", tuple(ours), note=length),
        Figure("transcribe: faster-whisper by hand", "s", tuple(hand), note="decode, voice activity, recognise"),
        Figure("transcribe: the pipeline takes longer by", "%", overhead, 5, "at most"),
        Figure(
            "transcribe: the pipeline takes more CPU by", "%", tuple(more_cpu), note="API, host, worker and its stages"
        ),
        Figure("in stages with no counterpart by hand", "s", tuple(extras), note=" and ".join(EXTRAS)),
        Figure("between the stages", "s", tuple(between), note="upload, dispatch, claims, reports, publishing"),
    ]


def looped(stand: Stand) -> Path:
    """The recording of the tests, again and again, for about two and a half minutes."""
    target = stand.folder / "looped.wav"
    with wave.open(str(FIXTURE), "rb") as source, wave.open(str(target), "wb") as file:
        frames, seconds = source.readframes(source.getnframes()), source.getnframes() / source.getframerate()
        file.setparams(source.getparams())
        if stand.quick:
            file.writeframes(frames[: len(frames) // 8])
        for _ in range(0 if stand.quick else max(1, round(150 / seconds))):
            file.writeframes(frames)
    return target


def through_the_pipeline(
    port: int, recording: Path, pipeline: str = "transcribe", params: dict[str, Any] | None = None
) -> tuple[float, dict[str, Any]]:
    """Upload it, watch until the end; the seconds that took, and the job."""
    begun = time.perf_counter()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
        with recording.open("rb") as file:
            form = {"pipeline": pipeline, "params": json.dumps(params or {})}
            answer = client.post("/v1/jobs", data=form, files={"file": (recording.name, file)})
        answer.raise_for_status()
        path = f"/v1/jobs/{answer.json()['id']}"
        with client.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as stream:
            for _ in stream.iter_lines():
                pass
        seconds = time.perf_counter() - begun
        job = client.get(path).raise_for_status().json()
    assert job["status"] == "completed", job["error"]
    return seconds, job


def _ask(by_hand: subprocess.Popen[bytes], recording: Path) -> float:
    stdin, stdout = cast(IO[bytes], by_hand.stdin), cast(IO[bytes], by_hand.stdout)
    stdin.write(f"{recording}\n".encode())
    stdin.flush()
    return float(stdout.readline())


def _lasted(stage: dict[str, Any]) -> float:
    begun, ended = (datetime.fromisoformat(stage[name]) for name in ("started_at", "ended_at"))
    return (ended - begun).total_seconds()


def _seconds(recording: Path) -> float:
    with wave.open(str(recording), "rb") as file:
        return file.getnframes() / file.getframerate()
