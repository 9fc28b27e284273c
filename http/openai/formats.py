"""A finished transcription in the formats of the OpenAI API.

Its segments are our utterances. What only a recogniser of its own kind knows of a segment is given as near as it can
be: `avg_logprob` is the logarithm of the mean confidence, `compression_ratio` is measured on the text as whisper does;
`tokens` is empty and `seek` 0. `no_speech_prob` is 0: what is no speech was taken out before.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from string import ascii_uppercase
from typing import Any

import msgspec

from callsheet.actors.stores.store import ArtifactStore
from callsheet.http.openai.form import SPEAKERS, Wanted
from callsheet.http.problems import Problem
from callsheet.jobs.job import Job
from callsheet.media.languages import LANGUAGES

FILES = {"srt": ("transcript.srt", "application/x-subrip"), "vtt": ("transcript.vtt", "text/vtt; charset=utf-8")}
JSON = "application/json"


class _Word(msgspec.Struct):
    punctuated_word: str
    start: float
    end: float
    space_before: bool = True


class _Utterance(msgspec.Struct):
    id: int
    start: float
    end: float
    text: str
    confidence: float
    words: list[_Word]
    speaker: int | None = None

    @property
    def written(self) -> str:
        """Its text, after a space where one belongs."""
        return (" " if begins_apart(self) else "") + self.text


class Heard(msgspec.Struct):
    """A transcript, as far as it is told here. Times are in seconds."""

    language: str | None
    duration: float
    utterances: list[_Utterance]

    @property
    def text(self) -> str:
        """All that was said, as one line."""
        return "".join(u.written for u in self.utterances).strip()

    @property
    def usage(self) -> dict[str, Any]:
        """What it counts as."""
        return {"type": "duration", "seconds": math.ceil(self.duration)}


_heard = msgspec.json.Decoder(Heard)


def begins_apart(utterance: _Utterance) -> bool:
    """Whether the language has a space between an utterance and the one before."""
    return not utterance.words or utterance.words[0].space_before


async def formatted(store: ArtifactStore, job: Job, wanted: Wanted) -> tuple[str, bytes]:
    """The media type and the body of the answer. Raises Problem, StoreAway."""
    if wanted.response_format in FILES:
        name, media_type = FILES[wanted.response_format]
        return media_type, await _artifact(store, job, name)
    heard = await read_transcript(store, job)
    return await asyncio.to_thread(_rendered, heard, wanted)


async def read_transcript(store: ArtifactStore, job: Job) -> Heard:
    """The transcript of a completed job. Raises Problem, StoreAway."""
    raw = await _artifact(store, job, "transcript.json")
    return await asyncio.to_thread(_heard.decode, raw)


async def _artifact(store: ArtifactStore, job: Job, name: str) -> bytes:
    ref = next((ref for ref in job.artifacts if ref.name == name), None)
    if ref is None:
        raise Problem("job_failed", f"{name} could not be made", {"x-should-retry": "false"}, reason="artifact_failed")
    return b"".join([piece async for piece in store.read(job.id, ref)])


def _rendered(heard: Heard, wanted: Wanted) -> tuple[str, bytes]:
    if wanted.response_format == "text":
        return "text/plain; charset=utf-8", f"{heard.text}\n".encode()
    if wanted.response_format == "json":
        return JSON, msgspec.json.encode({"text": heard.text, "usage": heard.usage})
    members = _by_speakers(heard) if wanted.response_format == SPEAKERS else _verbose(heard, wanted)
    return JSON, msgspec.json.encode(members)


def _verbose(heard: Heard, wanted: Wanted) -> dict[str, Any]:
    spoken = "en" if wanted.translate else heard.language or ""
    members: dict[str, Any] = {
        "task": "translate" if wanted.translate else "transcribe",
        "language": LANGUAGES.get(spoken, spoken),
        "duration": heard.duration,
        "text": heard.text,
        "usage": heard.usage,
    }
    if "word" in wanted.granularities:
        words = [word for utterance in heard.utterances for word in utterance.words]
        members["words"] = [{"word": w.punctuated_word, "start": w.start, "end": w.end} for w in words]
    if "segment" in wanted.granularities or not wanted.granularities:
        members["segments"] = [_segment(utterance, wanted.temperature) for utterance in heard.utterances]
    return members


def _by_speakers(heard: Heard) -> dict[str, Any]:
    segments = [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{utterance.id}",
            "start": utterance.start,
            "end": utterance.end,
            "text": utterance.written,
            "speaker": _letter(utterance.speaker or 0),
        }
        for utterance in heard.utterances
    ]
    members = {"task": "transcribe", "duration": heard.duration, "text": heard.text}
    return {**members, "segments": segments, "usage": heard.usage}


def _letter(speaker: int) -> str:
    """What the OpenAI API calls a speaker: A, B, C …; beyond Z, the number."""
    return ascii_uppercase[speaker] if speaker < len(ascii_uppercase) else f"{speaker + 1}"


def _segment(utterance: _Utterance, temperature: float) -> dict[str, Any]:
    plain = utterance.written.encode()
    return {
        "id": utterance.id,
        "seek": 0,
        "start": utterance.start,
        "end": utterance.end,
        "text": utterance.written,
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": round(math.log(max(utterance.confidence, 1e-6)), 4),
        "compression_ratio": round(len(plain) / len(zlib.compress(plain)), 4),
        "no_speech_prob": 0.0,
    }
