"""How good a recording is, measured on its original channels while it streams by.

How channels combine: the *power* of a moment is the mean of x² over the channels, so opposite phases do not cancel (as
they would in a mono mix) and a dead channel costs 3 dB; the peak is the highest of any channel; clipped samples count
in every channel. Memory: one number for 512 samples and one for 25 ms, 11 MB and 2 MB for four hours at 48 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from callsheet.media.audio import Samples, original_blocks

HOP, HOPS_IN_FRAME = 512, 4  # SNR frames of 2048 samples, a new one each 512
SILENCE_FRAME_SECONDS = 0.025
SILENCE_BELOW_PEAK_DB = 40.0
CLIPPED = 0.99
SNR_RANGE = (-10.0, 60.0)
RMS_FLOOR_DB = -96.0
LEVELS: tuple[tuple[Literal["excellent", "good", "fair"], float, float], ...] = (
    ("excellent", 25.0, 0.8),
    ("good", 15.0, 0.6),
    ("fair", 10.0, 0.4),
)


class QualityWarning(msgspec.Struct, frozen=True):
    """Something a listener should know: a stable code and a sentence."""

    code: str
    message: str


class Quality(msgspec.Struct, frozen=True):
    """The figures: dB where the name says so, ratios and score 0..1, peak as a share of full scale."""

    snr_db: float
    silence_ratio: float
    clipping_ratio: float
    rms_level_db: float
    peak_amplitude: float
    quality_score: float
    level: Literal["excellent", "good", "fair", "poor"]
    warnings: tuple[QualityWarning, ...] = ()


class _Sums:
    """Sums of consecutive stretches of `length` values, over a stream that comes in blocks of any size."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.rest: npt.NDArray[np.float64] = np.empty(0)
        self.sums: list[npt.NDArray[np.float32]] = []

    def add(self, values: npt.NDArray[np.float64]) -> None:
        values = np.concatenate([self.rest, values])
        whole = len(values) // self.length * self.length
        self.sums.append(values[:whole].reshape(-1, self.length).sum(axis=1).astype(np.float32))
        self.rest = values[whole:].copy()

    def close(self) -> npt.NDArray[np.float64]:
        """All sums so far. A tail shorter than `length` does not count, unless it is all there is."""
        sums = np.concatenate(self.sums) if self.sums else np.empty(0, np.float32)
        if len(sums) == 0 and len(self.rest):
            return np.array([self.rest.mean() * self.length])
        return sums.astype(np.float64)


class QualityMeter:
    """Takes blocks of shape (channels, n) and ends with the figures."""

    def __init__(self, rate: int) -> None:
        self._hops = _Sums(HOP)
        self._frames = _Sums(max(1, round(rate * SILENCE_FRAME_SECONDS)))
        self._peak = self._power = 0.0
        self._moments = self._samples = self._clipped = 0

    def add(self, block: Samples) -> None:
        """Take the next block."""
        loudness = np.abs(block)
        power = np.mean(np.square(block, dtype=np.float64), axis=0)
        self._hops.add(power)
        self._frames.add(power)
        self._peak = max(self._peak, float(loudness.max(initial=0.0)))
        self._power += float(power.sum())
        self._clipped += int(np.count_nonzero(loudness >= CLIPPED))
        self._samples += block.size
        self._moments += block.shape[1]

    def close(self) -> Quality:
        """The figures of all that was taken."""
        rms = math.sqrt(self._power / self._moments) if self._moments else 0.0
        snr = _snr_db(self._hops.close())
        silence = _silence_ratio(self._frames.close())
        clipping = self._clipped / self._samples if self._samples else 0.0
        score = quality_score(snr, silence, clipping)
        return Quality(
            snr_db=round(snr, 2),
            silence_ratio=round(silence, 4),
            clipping_ratio=round(clipping, 6),
            rms_level_db=round(max(RMS_FLOOR_DB, 20 * math.log10(rms)) if rms > 0 else RMS_FLOOR_DB, 2),
            peak_amplitude=round(self._peak, 4),
            quality_score=round(score, 4),
            level=_level(snr, score),
            warnings=_warnings(snr, silence, clipping, self._peak),
        )


def measure(blocks: Iterable[Samples], rate: int) -> Quality:
    """The figures of a stream of blocks of shape (channels, n) at `rate` Hz."""
    meter = QualityMeter(rate)
    for block in blocks:
        meter.add(block)
    return meter.close()


def measure_file(source: Path, track: int, rate: int) -> Quality:
    """The figures of a track of a file. MediaError: as `original_blocks`."""
    return measure(original_blocks(source, track), rate)


def _snr_db(hops: npt.NDArray[np.float64]) -> float:
    """10·log10(mean energy of the loudest half of the frames / that of the quietest tenth), -10..60.

    Nothing at all has no signal to speak of: the floor. Sound beside digital silence: the ceiling.
    """
    frames = np.convolve(hops, np.ones(min(HOPS_IN_FRAME, len(hops))), "valid") if len(hops) else hops
    frames = np.sort(frames)
    if len(frames) == 0 or frames[-1] <= 0:
        return SNR_RANGE[0]
    loud = float(frames[len(frames) // 2 :].mean())
    quiet = float(frames[: max(1, len(frames) // 10)].mean())
    if quiet <= 0:
        return SNR_RANGE[1]
    return float(np.clip(10 * math.log10(loud / quiet), *SNR_RANGE))


def _silence_ratio(frames: npt.NDArray[np.float64]) -> float:
    """The share of 25 ms frames more than 40 dB below the loudest one; all of them where nothing sounds."""
    peak = float(frames.max(initial=0.0))
    if peak <= 0:
        return 1.0
    return float(np.mean(frames < peak * 10 ** (-SILENCE_BELOW_PEAK_DB / 10)))


def quality_score(snr_db: float, silence_ratio: float, clipping_ratio: float) -> float:
    """0.5·clip(snr/30) + 0.3·(1 - clip(silence/0.8)) + 0.2·(1 - clip(clipping/0.05)), each clipped to 0..1."""
    return float(
        0.5 * np.clip(snr_db / 30, 0, 1)
        + 0.3 * (1 - np.clip(silence_ratio / 0.8, 0, 1))
        + 0.2 * (1 - np.clip(clipping_ratio / 0.05, 0, 1))
    )


def _level(snr: float, score: float) -> Literal["excellent", "good", "fair", "poor"]:
    for level, least_snr, least_score in LEVELS:
        if snr >= least_snr and score >= least_score:
            return level
    return "poor"


def _warnings(snr: float, silence: float, clipping: float, peak: float) -> tuple[QualityWarning, ...]:
    found = (
        (snr < 10, "low_snr", f"Speech stands out from the noise by only {snr:.1f} dB."),
        (silence > 0.5, "mostly_silence", f"{silence:.1%} of the recording is silence."),
        (clipping > 0.01, "clipping", f"{clipping:.1%} of the samples are clipped."),
        (peak < 0.1, "low_level", f"The recording is quiet: its peak is {peak:.3f} of full scale."),
    )
    return tuple(QualityWarning(code, message) for applies, code, message in found if applies)
