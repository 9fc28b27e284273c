"""The `openai` package, pointed at the service, on real speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pysubs2
import pytest

from tests.e2e.conftest import Service

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def ai(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.api.base_url}/v1", api_key="sk-none", max_retries=0, timeout=120) as client:
        yield client


def test_each_format_of_one_transcription(ai: openai.OpenAI, jfk: Path) -> None:
    key = {"Idempotency-Key": "jfk"}  # the formats are of one job: it is transcribed once
    streamed = list(
        ai.audio.transcriptions.create(model="whisper-1", file=jfk, language="en", stream=True, extra_headers=key)
    )
    assert [event.type for event in streamed][-1] == "transcript.text.done"
    text = streamed[-1].text  # type: ignore[union-attr]
    assert "ask what you can do for your country" in text.lower()
    assert "".join(event.delta for event in streamed[:-1]) == text  # type: ignore[union-attr]

    plain = ai.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=jfk, language="en", extra_headers=key
    )
    assert plain.parse().text == text
    told: dict[str, Any] = {
        name: ai.audio.transcriptions.create(
            model="whisper-1", file=jfk, language="en", response_format=name, extra_headers=key
        )
        for name in ("text", "srt", "vtt", "verbose_json")
    }
    assert told["text"] == f"{text}\n"
    assert told["vtt"].startswith("WEBVTT")
    for name in ("srt", "vtt"):
        lines = pysubs2.SSAFile.from_string(told[name], format_=name)
        assert " ".join(line.plaintext.replace("\n", " ") for line in lines) == text
    verbose = told["verbose_json"]
    assert (verbose.text, verbose.language, round(verbose.duration)) == (text, "english", 11)
    assert "".join(segment.text for segment in verbose.segments).strip() == text


def test_a_file_that_is_no_recording_is_a_bad_request_also_for_who_streams(ai: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as error:
            ai.audio.transcriptions.create(
                model="whisper-1", file=("talk.mp3", b"This is no sound at all.\n" * 100), stream=stream
            )
        assert error.value.param == "file"


def test_a_model_that_is_not_there_is_not_found(ai: openai.OpenAI, jfk: Path) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        ai.audio.transcriptions.create(model="gpt-9-transcribe", file=jfk)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
