"""Loudness as EBU R 128 measures it, and bringing a clip to the level that platforms play at.

Two passes of ffmpeg's loudnorm: the first measures what the second is told, which then needs no guess. Where the peaks
leave room the second is one constant gain; where they do not, it evens the level out. Loudness itself is measured by
ebur128: in clips of a few seconds loudnorm finds up to 0.8 LU less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from callsheet.media import ffmpeg
from callsheet.media.errors import MediaError

TARGET = -14.0  # LUFS
PEAK = -1.5  # dBTP
RANGE = 11.0  # LU
SILENT = -60.0  # LUFS; below it there is nothing to bring up but noise
RATE = 48_000
_JSON = re.compile(r"\{[^{}]*\"input_i\"[^{}]*\}")
_SUMMARY = re.compile(r"Summary:.*?I:\s+(-?[\d.]+|-inf) LUFS", re.DOTALL)


class Measured(msgspec.Struct, frozen=True):
    """What was found: LUFS, dBTP, LU, LUFS, and the offset (LU) that loudnorm asks for. As it is written: in text."""

    input_i: str
    input_tp: str
    input_lra: str
    input_thresh: str
    target_offset: str

    @property
    def silent(self) -> bool:
        """Whether there is next to no sound."""
        return not float(self.input_i) > SILENT  # also for "-inf"


def measure(inputs: Sequence[ffmpeg.Input], sound: str, target: float = TARGET) -> Measured:
    """Measure the sound that a filter graph with the output `[sound]` makes. MediaError: conversion_failed."""
    options = [
        "-filter_complex",
        f"{sound};[sound]ebur128=framelog=quiet,{_settings(target)}:print_format=json[measured]",
        "-map",
        "[measured]",
    ]
    said = ffmpeg.run(inputs, options, None, log="info")
    found, level = _JSON.search(said), _SUMMARY.search(said)
    if found is None or level is None:
        raise MediaError("conversion_failed", "The loudness of the sound could not be measured.")
    return msgspec.structs.replace(msgspec.json.decode(found[0], type=Measured), input_i=level[1])


def normalise(measured: Measured, target: float = TARGET) -> str:
    """The filter of the second pass, to `target` LUFS; nothing is done to silence."""
    if measured.silent:
        return "anull"
    told = (
        f"measured_I={measured.input_i}:measured_TP={measured.input_tp}:measured_LRA={measured.input_lra}:"
        f"measured_thresh={measured.input_thresh}:offset={measured.target_offset}:linear=true"
    )
    # Where it evens the level out, loudnorm leaves a gap of up to 0.1 s in its times, three seconds before the end.
    return f"{_settings(target)}:{told},aresample={RATE},asetpts=N/SR/TB"


def integrated(path: Path) -> float | None:
    """The integrated loudness (LUFS) of a file of ours; None if it is silent. MediaError: conversion_failed."""
    options = ["-map", "0:a:0", "-af", "ebur128=framelog=quiet"]
    found = _SUMMARY.search(ffmpeg.run([ffmpeg.Input(path, trusted=True)], options, None, log="info"))
    if found is None:
        raise MediaError("conversion_failed", "The loudness of the clip could not be measured.")
    level = float(found[1])
    return level if level > SILENT else None


def _settings(target: float) -> str:
    return f"loudnorm=I={target}:TP={PEAK}:LRA={RANGE}"
