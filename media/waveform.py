"""The shape of a sound: peaks for players, and a picture.

Peaks are in the JSON format of the BBC's audiowaveform (version 2), which peaks.js and wavesurfer.js read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from callsheet.media.audio import BLOCK, RATE, Samples, original_blocks, wav_blocks, wav_seconds
from callsheet.media.frames import Picture
from callsheet.media.probe import MediaFacts

POINTS = 2000  # pairs of peaks at most
WIDTH, HEIGHT = 1200, 240
INK, PAPER, LINE = (158, 98, 38), (255, 255, 255), (225, 215, 205)  # blue, green, red
Peaks = npt.NDArray[np.float32]  # shape (n, 2): least and greatest sample of each stretch, -1..1


class Waveform(msgspec.Struct, frozen=True):
    """`peaks` of `step` samples each, at `rate` samples a second."""

    rate: int
    step: int
    peaks: Peaks

    def as_json(self) -> dict[str, Any]:
        """In the format of audiowaveform, 8 bits, channels mixed by taking the extremes."""
        data = np.clip(np.round(self.peaks * 127.0), -128, 127).astype(int)
        return {
            "version": 2,
            "channels": 1,
            "sample_rate": self.rate,
            "samples_per_pixel": self.step,
            "bits": 8,
            "length": len(data),
            "data": data.ravel().tolist(),
        }

    def drawn(self, width: int = WIDTH, height: int = HEIGHT) -> Picture:
        """A picture of it: time from left to right."""
        picture = np.full((height, width, 3), PAPER, np.uint8)
        middle = (height - 1) / 2
        cv2.line(picture, (0, round(middle)), (width - 1, round(middle)), LINE, 1)
        edges = np.linspace(0, len(self.peaks), width + 1)
        for x in range(width):
            part = self.peaks[int(edges[x]) : max(int(edges[x]) + 1, math.ceil(edges[x + 1]))]
            if len(part):
                top, bottom = middle - part[:, 1].max() * middle, middle - part[:, 0].min() * middle
                cv2.line(picture, (x, max(0, round(top))), (x, min(height - 1, round(bottom))), INK, 1)
        return picture


def measure(source: Path, facts: MediaFacts) -> Waveform:
    """The waveform of the chosen track. Reads block by block; an hour takes seconds. MediaError: media_unreadable."""
    return _measured(original_blocks(source, facts.audio_index), facts.speech_track.rate, facts.audio_seconds)


def measure_speech(wav: Path) -> Waveform:
    """The waveform of 16 kHz mono sound, with nothing to decode: four hours take a second or two."""
    return _measured((block[None] for block in wav_blocks(wav, BLOCK)), RATE, wav_seconds(wav))


def _measured(blocks: Iterable[Samples], rate: int, seconds: float) -> Waveform:
    step = max(1, math.ceil(seconds * rate / POINTS))
    found: list[Peaks] = []
    left = np.zeros((2, 0), np.float32)
    for block in blocks:
        extremes = np.stack([block.min(axis=0), block.max(axis=0)])
        left = np.concatenate([left, extremes], axis=1)
        whole = left.shape[1] // step * step
        found.append(_peaks(left[:, :whole], step))
        left = left[:, whole:]
    if left.shape[1]:
        found.append(_peaks(left, left.shape[1]))
    return Waveform(rate, step, np.concatenate(found).clip(-1.0, 1.0))


def _peaks(extremes: npt.NDArray[np.float32], step: int) -> Peaks:
    low, high = extremes.reshape(2, -1, step)
    return np.stack([low.min(axis=1), high.max(axis=1)], axis=1)


def write(found: Waveform, peaks: Path, picture: Path) -> None:
    """Both files (JSON and PNG)."""
    peaks.write_bytes(msgspec.json.encode(found.as_json()))
    cv2.imwrite(str(picture), found.drawn())
