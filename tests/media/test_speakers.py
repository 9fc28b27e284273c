"""Speakers told apart by their voices: two people of the fixtures, who take turns."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from callsheet.media import speakers, weights
from callsheet.media.speakers import Turn, label
from callsheet.media.transcript import Word
from callsheet.pipelines.transcribe import pipeline
from callsheet.pipelines.transcribe_params import TranscribeParams
from tests.media.conftest import FIXTURES, Make
from tests.media.running import run_pipeline

NOVEL = FIXTURES / "speech_librivox_austen" / "austen_joined.wav"
CUTS = (("speech", 0.0, 2.3), ("novel", 0.0, 6.2), ("speech", 3.1, 7.8), ("novel", 6.5, 14.0))  # who, from, to (s)
PAUSE = 0.3


def talk(make: Make, jfk: Path, times: int = 1) -> Path:
    """A president and a novel's reader, who take turns."""
    chains = [
        f"[{who == 'novel':d}]atrim={start}:{end},asetpts=PTS-STARTPTS,aresample=16000,aformat=channel_layouts=mono,"
        f"apad=pad_dur={PAUSE}[c{n}]"
        for n, (who, start, end) in enumerate(CUTS)
    ]
    joined = "".join(f"[c{n}]" for n in range(len(CUTS))) + f"concat=n={len(CUTS)}:v=0:a=1,aloop={times - 1}:size=2e9"
    return make("talk.wav", "-i", jfk, "-i", NOVEL, "-filter_complex", ";".join([*chains, joined]), "-c:a", "pcm_s16le")


def heard_by_turns(turns: list[Turn], times: int = 1) -> list[int]:
    """Who speaks in the middle of each cut."""
    middles, at = [], 0.0
    for _, start, end in CUTS * times:
        middles.append(at + (end - start) / 2)
        at += end - start + PAUSE
    words = [Word("w", "w", middle - 0.2, middle + 0.2, 1.0) for middle in middles]
    return [word.speaker for word in label(words, turns) if word.speaker is not None]


def test_two_who_take_turns_are_told_apart(make: Make, jfk: Path) -> None:
    shares: list[float] = []
    turns = speakers.turns(talk(make, jfk), on_progress=shares.append)
    assert heard_by_turns(turns) == [0, 1, 0, 1]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] <= shares[-1] <= 1.0


def test_one_who_reads_alone_is_one() -> None:
    assert {turn.speaker for turn in speakers.turns(NOVEL)} == {0}


def test_it_is_believed_how_many_there_are(make: Make, jfk: Path) -> None:
    assert heard_by_turns(speakers.turns(talk(make, jfk), speakers=1)) == [0, 0, 0, 0]


@pytest.mark.parametrize("told", [None, 2])
def test_a_voice_is_known_again_in_the_next_piece(
    make: Make, jfk: Path, monkeypatch: pytest.MonkeyPatch, told: int | None
) -> None:
    monkeypatch.setattr(speakers, "PIECE_SECONDS", 22.0)
    turns = speakers.turns(talk(make, jfk, times=2), speakers=told)
    assert heard_by_turns(turns, times=2) == [0, 1, 0, 1] * 2


def test_nobody_speaks_where_it_is_silent(make: Make) -> None:
    quiet = make("quiet.wav", "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "12", "-c:a", "pcm_s16le")
    assert speakers.turns(quiet) == []


def word(start: float, end: float) -> Word:
    return Word("w", "w", start, end, 1.0)


def test_a_word_is_of_whoever_speaks_for_most_of_it_or_nearest_to_it() -> None:
    turns = [Turn(0.0, 2.0, 7), Turn(1.8, 4.0, 3), Turn(6.0, 8.0, 7)]
    words = [word(0.1, 0.5), word(1.7, 2.4), word(4.2, 4.4), word(5.7, 5.9), word(9.0, 9.5)]
    assert [w.speaker for w in label(words, turns)] == [0, 1, 1, 0, 0]
    assert label(words, []) == words


def test_a_transcript_names_who_speaks(make: Make, jfk: Path, tmp_path: Path, base_model: Path) -> None:
    weights.configure(base_model.parent, offline=True)
    run = run_pipeline(pipeline, talk(make, jfk), tmp_path / "run", TranscribeParams(diarize=True))
    assert [warning["code"] for warning in run.result["warnings"]] == []
    lines = run.artifact("transcript.txt").read_text().splitlines()
    said = {
        key: [line[8:18] for line in lines if key in line.lower()] for key in ("fellow", "dashwood", "ask", "young")
    }
    first, second = ["Speaker 1:"], ["Speaker 2:"]
    assert {key: who[:1] for key, who in said.items()} == {
        "fellow": first,
        "dashwood": second,
        "ask": first,
        "young": second,
    }
    told = json.loads(run.artifact("transcript.json").read_text())
    assert [(s["label"], s["utterance_count"] > 0) for s in told["speakers"]] == [
        ("Speaker 1", True),
        ("Speaker 2", True),
    ]


@pytest.mark.parametrize("params", [{"speakers": 2}, {"speakers": 2, "diarize": True, "engine": "deepgram"}])
def test_a_number_of_speakers_that_nobody_would_look_at_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="speakers is of use with"):
        msgspec.convert(params, TranscribeParams)
