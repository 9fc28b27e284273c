"""Documents say what was said, in the order in which it was said."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import docx
import msgspec
import pytest

from callsheet.media import documents
from callsheet.media.transcript import Transcript
from tests.media.spoken import talk, transcript, word


@pytest.fixture
def dialogue() -> Transcript:
    words = [
        *talk("Is it late?", speaker=0),
        *talk("It is.", start=2.5, speaker=1),
        *talk("Oh.", start=3725, speaker=0),
    ]
    return transcript(words)


@pytest.fixture
def monologue() -> Transcript:
    return transcript([*talk("Is it late?"), *talk("It is.", start=4.0)])


def paragraphs(made: Transcript) -> list[str]:
    return [paragraph.text for paragraph in docx.Document(io.BytesIO(documents.docx_bytes(made))).paragraphs]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "00:00"), (59.9, "00:59"), (61, "01:01"), (3599, "59:59"), (3600, "1:00:00")]
)
def test_a_time_reads_as_a_clock(seconds: float, shown: str) -> None:
    assert documents.clock(seconds) == shown


def test_each_utterance_is_a_line_with_its_time_and_speaker(dialogue: Transcript) -> None:
    assert documents.timed_text(dialogue) == (
        "[00:00] Speaker 1: Is it late?\n[00:02] Speaker 2: It is.\n[1:02:05] Speaker 1: Oh.\n"
    )


def test_without_speakers_a_line_names_nobody(monologue: Transcript) -> None:
    assert documents.timed_text(monologue) == "[00:00] Is it late?\n[00:04] It is.\n"


def test_plain_text_is_paragraphs_and_nothing_else(monologue: Transcript) -> None:
    assert documents.plain_text(monologue) == "Is it late?\n\nIt is.\n"


def test_the_json_is_the_transcript(dialogue: Transcript) -> None:
    assert msgspec.json.decode(documents.transcript_json(dialogue), type=Transcript) == dialogue


def test_the_json_has_every_field_that_is_promised(dialogue: Transcript) -> None:
    read: dict[str, Any] = json.loads(documents.transcript_json(dialogue))
    assert set(read) >= {"words", "utterances", "speakers", "paragraphs", "language", "duration", "word_count"}
    assert set(read) >= {"confidence", "model", "processing_time", "cost"}
    assert set(read["words"][0]) == {"word", "punctuated_word", "start", "end", "confidence", "speaker"}
    assert set(read["utterances"][0]) == {"id", "speaker", "start", "end", "text", "confidence", "words"}
    assert set(read["speakers"][0]) == {"id", "label", "total_duration", "utterance_count"}
    assert set(read["confidence"]) == {"mean", "min"}


def test_the_document_is_in_reading_order(dialogue: Transcript) -> None:
    read = json.loads(documents.document_json(dialogue))
    assert [block["id"] for block in read["blocks"]] == ["p1", "p2", "p3"]
    assert [line["id"] for block in read["blocks"] for line in block["utterances"]] == ["u1", "u2", "u3"]
    starts = [line["start_ms"] for block in read["blocks"] for line in block["utterances"]]
    assert starts == sorted(starts) == [0, 2500, 3_725_000]
    assert read["blocks"][1] == {
        "id": "p2",
        "type": "paragraph",
        "start_ms": 2500,
        "end_ms": 3100,
        "speaker": 1,
        "confidence": 0.9,
        "text": "It is.",
        "utterances": [
            {"id": "u2", "start_ms": 2500, "end_ms": 3100, "speaker": 1, "confidence": 0.9, "text": "It is."}
        ],
    }


def test_the_word_document_reads_the_same(dialogue: Transcript) -> None:
    assert paragraphs(dialogue) == [
        "Transcript",
        "Length 1:02:06, 6 words, language en, model base",
        "[00:00] Speaker 1: Is it late?",
        "[00:02] Speaker 2: It is.",
        "[1:02:05] Speaker 1: Oh.",
    ]


def test_the_word_document_names_nobody_without_speakers(monologue: Transcript) -> None:
    assert paragraphs(monologue)[2:] == ["[00:00] Is it late?", "[00:04] It is."]


def test_nothing_said_is_said() -> None:
    made = transcript([], duration=5)
    assert documents.timed_text(made) == "(no speech was found)\n"
    assert documents.plain_text(made) == ""
    assert paragraphs(made)[-1] == "(no speech was found)"
    assert json.loads(documents.document_json(made))["blocks"] == []


def test_control_characters_break_no_document() -> None:
    assert paragraphs(transcript([word(" a\x0bb", 0, 1)]))[-1] == "[00:00] ab"


@pytest.mark.parametrize(
    "render",
    [
        documents.timed_text,
        documents.plain_text,
        documents.transcript_json,
        documents.docx_bytes,
        documents.document_json,
    ],
)
def test_the_same_transcript_gives_the_same_bytes(
    render: Callable[[Transcript], str | bytes], dialogue: Transcript, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = render(dialogue)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert render(dialogue) == first
