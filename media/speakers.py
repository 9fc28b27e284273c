"""Who speaks when, told by their voices on this machine: sherpa-onnx, with the segmentation network of pyannote and the
voiceprints of CAM++. Where the networks come from, and how well they do: docs/decisions/speakers.md.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from callsheet.media.audio import RATE, read_wav, wav_seconds
from callsheet.media.transcript import Word

DATA = Path(__file__).parent / "data"
SEGMENTATION, VOICES = DATA / "pyannote_segmentation_3_0.onnx", DATA / "campplus_zh_en.onnx"
ALIKE = 0.5  # voiceprints farther apart than this (1 - cosine) are those of two people; sherpa-onnx's own default
PIECE_SECONDS = 1800.0  # heard at once: grouping takes memory by the square of it, 120 MB at most for this
VOICE_SECONDS = 30.0  # of a voice's longest turns, by which it is known again in another piece
HEARD_SHARE = 0.95  # of the work; the rest is knowing voices again


class Turn(msgspec.Struct, frozen=True):
    """A stretch in which one person speaks; seconds. `speaker` counts from 0."""

    start: float
    end: float
    speaker: int


def turns(
    wav: Path, *, speakers: int | None = None, threads: int = 1, on_progress: Callable[[float], None] = lambda _: None
) -> list[Turn]:
    """The turns in a 16 kHz mono WAV, piece by piece; two may overlap. `speakers`: how many people there are, if that
    is known. A long recording is heard in pieces; the voices of each are known again by their prints.
    """
    seconds = wav_seconds(wav)
    count = max(1, math.ceil(seconds / PIECE_SECONDS))
    length = seconds / count
    diarizer = _diarizer(threads, speakers if count == 1 else None)
    found: list[Turn] = []
    for piece in range(count):
        begin, voices = piece * length, max((turn.speaker + 1 for turn in found), default=0)

        def told(done: int, of: int, piece: int = piece) -> int:
            on_progress(HEARD_SHARE * (piece + done / max(of, 1)) / count)
            return 0

        heard = diarizer.process(_sound(wav, begin, begin + length), callback=told).sort_by_start_time()
        found += [Turn(begin + one.start, begin + one.end, voices + one.speaker) for one in heard]
    return _known_again(wav, found, speakers, threads) if count > 1 else found


def label(words: Sequence[Word], turns: Sequence[Turn]) -> list[Word]:
    """The words, each with who says it: whoever speaks for most of it or, where nobody does, nearest to it. Speakers
    are counted in the order in which they begin."""
    if not turns:
        return list(words)
    starts, ends = np.array([turn.start for turn in turns]), np.array([turn.end for turn in turns])
    numbers: dict[int, int] = {}
    labelled = []
    for word in words:
        common = np.minimum(ends, word.end) - np.maximum(starts, word.start)  # below 0 it is how far they are apart
        voice = turns[int(np.argmax(common))].speaker
        labelled.append(msgspec.structs.replace(word, speaker=numbers.setdefault(voice, len(numbers))))
    return labelled


def _known_again(wav: Path, found: Sequence[Turn], speakers: int | None, threads: int) -> list[Turn]:
    """The turns with the voices of all pieces grouped anew: those that are alike are one person's."""
    sherpa = _sherpa()
    extractor = sherpa.SpeakerEmbeddingExtractor(_voices(sherpa, threads))
    by_voice: defaultdict[int, list[Turn]] = defaultdict(list)
    for turn in found:
        by_voice[turn.speaker].append(turn)
    prints = [_print(extractor, wav, by_voice[voice]) for voice in sorted(by_voice)]
    if len(prints) < 2:
        return list(found)
    people = sherpa.FastClustering(_grouping(sherpa, speakers))(np.stack(prints))
    person = dict(zip(sorted(by_voice), people, strict=True))
    return [msgspec.structs.replace(turn, speaker=int(person[turn.speaker])) for turn in found]


def _print(extractor: Any, wav: Path, own: Sequence[Turn]) -> Any:
    """The print of a voice, from its longest turns."""
    stream, left = extractor.create_stream(), VOICE_SECONDS
    for turn in sorted(own, key=lambda turn: turn.start - turn.end):
        stream.accept_waveform(RATE, _sound(wav, turn.start, min(turn.end, turn.start + left)))
        left -= turn.end - turn.start
        if left <= 0:
            break
    stream.input_finished()
    return np.asarray(extractor.compute(stream), dtype=np.float32)


def _sound(wav: Path, start: float, end: float) -> Any:
    return read_wav(wav, round(start * RATE), round(end * RATE))


def _diarizer(threads: int, speakers: int | None) -> Any:
    sherpa = _sherpa()
    network = sherpa.OfflineSpeakerSegmentationPyannoteModelConfig(model=str(SEGMENTATION))
    return sherpa.OfflineSpeakerDiarization(
        sherpa.OfflineSpeakerDiarizationConfig(
            segmentation=sherpa.OfflineSpeakerSegmentationModelConfig(pyannote=network, num_threads=threads),
            embedding=_voices(sherpa, threads),
            clustering=_grouping(sherpa, speakers),
        )
    )


def _voices(sherpa: Any, threads: int) -> Any:
    return sherpa.SpeakerEmbeddingExtractorConfig(model=str(VOICES), num_threads=threads)


def _grouping(sherpa: Any, speakers: int | None) -> Any:
    return sherpa.FastClusteringConfig(num_clusters=speakers or -1, threshold=ALIKE)


def _sherpa() -> Any:
    import sherpa_onnx  # noqa: PLC0415  (half a second that few processes need)

    return sherpa_onnx
