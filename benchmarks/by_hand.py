"""What somebody would write around faster-whisper: for each path on stdin, the seconds it took, on stdout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from faster_whisper import WhisperModel

OPTIONS = ("-vn", "-af", "aresample=16000:async=1:first_pts=0", "-ac", "1", "-c:a", "pcm_s16le", "-f", "s16le")
# As callsheet.media.speech has them.
VOICE = {"threshold": 0.5, "min_speech_duration_ms": 250, "min_silence_duration_ms": 500, "speech_pad_ms": 100}


def transcribe(model: WhisperModel, recording: Path) -> int:
    """Decode it and recognise it; how many words there are."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "speech.raw"
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        subprocess.run([ffmpeg, "-nostdin", "-v", "error", "-i", str(recording), *OPTIONS, str(raw)], check=True)
        samples = np.fromfile(raw, dtype="<i2").astype(np.float32) / np.float32(32768.0)
    segments, _ = model.transcribe(
        samples,
        beam_size=1,
        word_timestamps=True,
        condition_on_previous_text=False,
        vad_filter=True,
        vad_parameters=VOICE,
    )
    return sum(len(segment.words or ()) for segment in segments)


def main(model_folder: str) -> None:
    """Answer until stdin ends."""
    threads = len(os.sched_getaffinity(0))
    model = WhisperModel(model_folder, device="cpu", compute_type="int8", cpu_threads=threads)
    for line in sys.stdin:
        begun = time.perf_counter()
        words = transcribe(model, Path(line.strip()))
        seconds = time.perf_counter() - begun
        assert words > 0, "nothing was recognised"
        print(seconds, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
