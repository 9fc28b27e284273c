"""What highlights are chosen from, and what is chosen: the types that scorers share."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from callsheet.media.audio import RATE, wav_blocks
from callsheet.media.shots import Shots
from callsheet.media.transcript import Word

LEVEL_SECONDS = 0.5
FLOOR = -80.0  # dB


class Wish(msgspec.Struct, frozen=True):
    """What was asked for: how many clips, and how long (seconds)."""

    count: int
    shortest: float
    longest: float


class Material(msgspec.Struct, frozen=True):
    """What is known of a recording: its length in seconds, its words, the level of the sound (dB, one each `step`
    seconds), the cuts and the motion of its picture."""

    duration: float
    words: tuple[Word, ...]
    levels: tuple[float, ...]
    shots: Shots
    step: float = LEVEL_SECONDS


class Candidate(msgspec.Struct, frozen=True):
    """A stretch (seconds) that could be a clip, its score and the features behind it (0..1), and what is said."""

    start: float
    end: float
    score: float
    features: dict[str, float]
    text: str = ""


class Choice(msgspec.Struct, frozen=True):
    """A stretch that is to be a clip. What a chooser leaves empty is written from the transcript."""

    start: float
    end: float
    score: float
    why: str = ""
    title: str = ""
    hook: str = ""
    descriptions: dict[str, str] = {}
    features: dict[str, float] = {}


def levels(wav: Path) -> tuple[float, ...]:
    """The level of a 16 kHz WAV in dB of full scale, one each half second, read in blocks."""
    width = int(LEVEL_SECONDS * RATE)
    found: list[float] = []
    for block in wav_blocks(wav, 120 * width):
        whole = np.pad(block, (0, -len(block) % width)).reshape(-1, width)
        level = 10 * np.log10(np.mean(np.square(whole, dtype=np.float64), axis=1) + 1e-8)
        found += [round(float(value), 1) for value in level]
    return tuple(max(FLOOR, value) for value in found)
