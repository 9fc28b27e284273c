"""Sound as numbers: the 16 kHz mono file that recognition reads, and the original samples. Memory is bounded."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from callsheet.media import ffmpeg
from callsheet.media.containers import open_media
from callsheet.media.errors import MediaError
from callsheet.media.probe import MediaFacts

RATE = 16_000
BLOCK = 1 << 16
LOST_SECONDS = 1.0  # how much less than the packets promised may come out of the decoder, or
LOST_SHARE = 0.02  # this share of it, whichever is more
SUSPECT_DB = -45.0  # of full scale: a mix that is quieter is held against its channels,
CANCELLED_DB = 15.0  # which cancel each other out in it if they are so much louder
Samples = npt.NDArray[np.float32]
_SCALES = {"u1": 128.0, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}


def to_speech_wav(source: Path, facts: MediaFacts, target: Path, progress: ffmpeg.Progress | None = None) -> float:
    """Write the chosen track as 16 kHz mono 16-bit WAV whose time 0 is the file's own; give back its seconds.

    Gaps in the track, and a late start against the picture, become silence, so that times stay those of the source.
    Of two channels that cancel each other out, as when a microphone is wired the wrong way round, one is turned over.
    A file without sound is silent to its end.
    MediaError: conversion_failed, media_unreadable (much of the track did not decode).
    """
    if not facts.audio:
        return _silence(facts.duration, target)
    seconds = facts.audio_seconds
    limits = ffmpeg.ChildLimits(
        cpu_seconds=120 + int(seconds), output_bytes=int((seconds + 60) * RATE * 2), output_seconds=seconds + 30
    )
    options = ["-map", f"0:{facts.audio_index}", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-bitexact"]
    options += ["-ac", "1", "-c:a", "pcm_s16le", "-f", "wav", "-af"]
    on_time = f"aresample={RATE}:async=1:first_pts=0"
    inputs = [ffmpeg.Input(source)]
    ffmpeg.run(inputs, [*options, on_time], target, duration=seconds, progress=progress, limits=limits)
    if facts.speech_track.channels == 2 and _cancelled(source, facts.audio_index, target):
        options.append(f"{on_time},pan=mono|c0=0.5*c0-0.5*c1")
        ffmpeg.run(inputs, options, target, duration=seconds, limits=limits)
    written = wav_seconds(target)
    if seconds - written > max(LOST_SECONDS, LOST_SHARE * seconds):
        raise MediaError("media_unreadable", f"Only {written:.1f} s of {seconds:.1f} s of sound could be decoded.")
    return written


def _silence(seconds: float, target: Path) -> float:
    left = round(seconds * RATE)
    with wave.open(str(target), "wb") as file:
        file.setparams((1, 2, RATE, left, "NONE", ""))
        while left > 0:
            file.writeframesraw(bytes(2 * min(left, BLOCK)))
            left -= BLOCK
    return wav_seconds(target)


def _cancelled(source: Path, track: int, mixed: Path) -> bool:
    """Whether next to nothing is left of two channels in their mix, though there is something on each."""
    left = _level(wav_blocks(mixed, BLOCK))
    return left < SUSPECT_DB and _level(original_blocks(source, track)) > left + CANCELLED_DB


def _level(blocks: Iterable[Samples]) -> float:
    """The level of all of it, in dB of full scale."""
    energy, count = 0.0, 0
    for block in blocks:
        energy += float(np.sum(np.square(block, dtype=np.float64)))
        count += block.size
    return float(10 * np.log10(energy / max(1, count) + 1e-12))


def wav_seconds(path: Path) -> float:
    """Length of a WAV of ours."""
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()


def read_wav(path: Path, start: int = 0, stop: int | None = None) -> Samples:
    """Samples start..stop of a 16 kHz mono 16-bit WAV, as -1..1. Reads no more than that."""
    with wave.open(str(path), "rb") as file:
        stop = file.getnframes() if stop is None else min(stop, file.getnframes())
        file.setpos(min(start, stop))
        raw = np.frombuffer(file.readframes(max(0, stop - start)), dtype="<i2")
    return raw.astype(np.float32) / np.float32(32768.0)


def wav_blocks(path: Path, size: int) -> Iterator[Samples]:
    """The samples of a 16 kHz mono WAV in blocks of `size`, the last one shorter."""
    with wave.open(str(path), "rb") as file:
        while raw := file.readframes(size):
            yield np.frombuffer(raw, dtype="<i2").astype(np.float32) / np.float32(32768.0)


def original_blocks(source: Path, track: int) -> Iterator[Samples]:
    """The samples of a track as they are in the file: blocks of shape (channels, n), about 64 Ki each,
    full scale -1..1.

    Packets that do not decode are passed over, as players do. MediaError: media_unreadable when nothing decodes.
    """
    pending: list[Samples] = []
    size = total = 0
    for frame in _frames(source, track):
        block = _as_float(frame)
        if pending and pending[0].shape[0] != block.shape[0]:
            yield np.concatenate(pending, axis=1)
            pending, size = [], 0
        pending.append(block)
        size += block.shape[1]
        total += block.shape[1]
        if size >= BLOCK:
            yield np.concatenate(pending, axis=1)
            pending, size = [], 0
    if pending:
        yield np.concatenate(pending, axis=1)
    if total == 0:
        raise MediaError("media_unreadable", "None of the sound could be decoded.")


def _frames(source: Path, track: int) -> Iterator[AudioFrame]:
    with open_media(source) as container:
        stream = container.streams[track]
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError, ValueError, IndexError):
                continue  # a packet that does not decode is passed over; after a fault in reading, `next` ends the loop
            yield from (frame for frame in frames if isinstance(frame, AudioFrame))


def _as_float(frame: AudioFrame) -> Samples:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = _SCALES.get(samples.dtype.str[1:])
    if scale is None:  # already floating; a hostile file may hold NaN and infinities
        return np.clip(np.nan_to_num(samples.astype(np.float32), posinf=1.0, neginf=-1.0), -8.0, 8.0)
    offset = 128.0 if samples.dtype.kind == "u" else 0.0
    return (samples.astype(np.float32) - np.float32(offset)) / np.float32(scale)
