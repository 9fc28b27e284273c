"""ffmpeg dies with whoever started it, keeps within its limits, and leaves nothing half done."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.media import audio, ffmpeg
from callsheet.media.errors import MediaError
from callsheet.media.launch import ORPHANED

ENDLESS = ("-stream_loop", "-1")
PACED = (*ENDLESS, "-re")
# Runs ffmpeg without end, and says which process it is as soon as it has written something.
PARENT = f"""
import sys, psutil
from pathlib import Path
from callsheet.media import ffmpeg

def tell(_):
    print(psutil.Process().children()[0].pid, flush=True)

source = ffmpeg.Input(Path(sys.argv[1]), {PACED!r})
ffmpeg.run([source], [], Path(sys.argv[2]), duration=1e6, progress=tell, limits=ffmpeg.ChildLimits(output_seconds=1e6))
"""


@pytest.fixture
def parent(austen: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process, leader of a group of its own, in which ffmpeg runs."""
    command = [sys.executable, "-c", PARENT, str(austen), str(tmp_path / "out.wav")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        yield process
        process.kill()


def grandchild(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def ends(descriptor: int) -> bool:
    """Whether the process behind a pidfd ends; by itself it would not."""
    return bool(select.select([descriptor], [], [], 60)[0])


def test_ffmpeg_dies_when_its_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    child = os.pidfd_open(grandchild(parent))
    os.kill(parent.pid, signal.SIGKILL)
    assert ends(child)


def test_ffmpeg_stays_in_the_process_group_and_dies_with_it(parent: subprocess.Popen[str]) -> None:
    pid = grandchild(parent)
    child = os.pidfd_open(pid)
    assert os.getpgid(pid) == parent.pid
    os.killpg(parent.pid, signal.SIGKILL)
    assert ends(child)


def test_the_launcher_starts_nothing_for_a_parent_that_is_gone() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = [sys.executable, "-I", "-S", str(ffmpeg.LAUNCHER), str(gone.pid), "0", "0", "0", "/bin/echo", "started"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (ORPHANED, b"")


def test_the_child_has_the_limits_it_is_given() -> None:
    shell = "ulimit -v; ulimit -t; ulimit -f"  # KiB, seconds, blocks of 512 bytes
    limits = (str(os.getpid()), str(1 << 30), str(1 << 20), "7")
    command = [sys.executable, "-I", "-S", str(ffmpeg.LAUNCHER), *limits, "/bin/sh", "-c", shell]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert said.split() == [str(1 << 20), "7", str(1 << 11)]


def test_a_child_that_uses_too_much_processor_time_is_stopped_and_leaves_no_file(austen: Path, tmp_path: Path) -> None:
    limits = ffmpeg.ChildLimits(cpu_seconds=1, output_seconds=1e6, output_bytes=1 << 40)
    with pytest.raises(MediaError, match=r"conversion_failed: .*processor time"):
        ffmpeg.run([ffmpeg.Input(austen, ENDLESS)], ["-af", "areverse,afftdn"], tmp_path / "out.flac", limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_needs_too_much_memory_fails(austen: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="conversion_failed"):
        ffmpeg.run([ffmpeg.Input(austen)], [], tmp_path / "out.wav", limits=ffmpeg.ChildLimits(memory=32 << 20))


def test_output_stops_at_the_size_and_the_length_it_may_have(austen: Path, tmp_path: Path) -> None:
    short = ffmpeg.ChildLimits(output_seconds=2)
    ffmpeg.run([ffmpeg.Input(austen)], [], tmp_path / "short.wav", limits=short)
    assert audio.wav_seconds(tmp_path / "short.wav") == 2.0
    small = ffmpeg.ChildLimits(output_bytes=100_000)
    ffmpeg.run([ffmpeg.Input(austen, ENDLESS)], [], tmp_path / "small.wav", limits=small)
    assert (tmp_path / "small.wav").stat().st_size < 200_000


def test_progress_rises_from_0_to_1(austen: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    ffmpeg.run([ffmpeg.Input(austen)], [], tmp_path / "out.wav", duration=24.73, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0, abs=0.01)


def test_a_failed_conversion_has_a_code_and_names_no_path_and_keeps_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret-name.mp4").write_bytes(b"\0" * 10_000)
    with pytest.raises(MediaError) as caught:
        ffmpeg.run([ffmpeg.Input(tmp_path / "secret-name.mp4")], [], tmp_path / "out.wav")
    error = caught.value
    assert (error.code, error.retryable) == ("conversion_failed", False)
    told = "".join([str(error), *error.__notes__])
    assert "secret-name" not in told
    assert str(tmp_path) not in told
    assert [path.name for path in tmp_path.iterdir()] == ["secret-name.mp4"]


def test_an_error_in_the_progress_callback_stops_ffmpeg(austen: Path, tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise InterruptedError

    endless = ffmpeg.Input(austen, PACED)
    with pytest.raises(InterruptedError):
        ffmpeg.run([endless], [], tmp_path / "out.wav", duration=1.0, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["-i", "a b\nc", "%03d.wav", "concat:a|b", "..wav", "\u202egnp.wav", "x" * 200])
def test_a_file_may_have_any_name(austen: Path, tmp_path: Path, name: str) -> None:
    upload = tmp_path / name
    upload.write_bytes(austen.read_bytes())
    ffmpeg.run([ffmpeg.Input(upload)], [], tmp_path / "out.wav")
    assert audio.wav_seconds(tmp_path / "out.wav") == pytest.approx(24.73, abs=0.01)


def test_without_an_output_ffmpeg_only_tells_what_it_measured(austen: Path) -> None:
    said = ffmpeg.run([ffmpeg.Input(austen)], ["-af", "volumedetect"], None, log="info")
    assert "max_volume: " in said


def test_what_ffmpeg_says_is_bounded(austen: Path) -> None:
    said = ffmpeg.run([ffmpeg.Input(austen)], ["-af", "ashowinfo"], None, log="info")
    assert len(said.splitlines()) == ffmpeg.TAIL_LINES
    tail = deque[str]()
    ffmpeg._drain(io.StringIO("y" * 1000 + "\n"), tail)
    assert [len(line) for line in tail] == [ffmpeg.TAIL_WIDTH, ffmpeg.TAIL_WIDTH, 1000 - 2 * ffmpeg.TAIL_WIDTH]
