"""The pipeline `transcribe`: speech in any audio or video file to a transcript, subtitles and documents.

probe ─▶ audio ─┬▶ quality ─────────────┐
                └▶ speech ─▶ transcribe ─▶ artifacts
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from callsheet.jobs.graph import Queue, RetryPolicy
from callsheet.media import chapters, corrections, documents, subtitles
from callsheet.media.audio import to_speech_wav
from callsheet.media.containers import why_no_media
from callsheet.media.errors import MediaError
from callsheet.media.probe import probe as probe_file
from callsheet.media.quality import measure_file
from callsheet.media.speech import find_speech
from callsheet.media.transcript import Transcript
from callsheet.pipelines import looks
from callsheet.pipelines import transcribe_engines as engines
from callsheet.pipelines.common import facts_of, warning
from callsheet.pipelines.declare import OutputFile, Pipeline, StageContext, StageOutput, stage
from callsheet.pipelines.transcribe_params import TranscribeParams

TEXT_LIMIT = 64 * 1024  # bytes of the transcript that the job itself carries; the files hold all of it
Renderer = Callable[[Transcript], str | bytes]


def probe(context: StageContext, *, need_sound: bool = True) -> StageOutput:
    """Check the file and what was asked for, before any work is done."""
    engine = engines.check(context.params)
    facts = probe_file(context.input.path, need_sound=need_sound)
    context.log(f"{facts.media_type}, {facts.duration:.1f} s, {len(facts.audio)} audio stream(s)")
    return StageOutput(
        data={"facts": msgspec.to_builtins(facts), **engine},
        input={"duration": facts.duration, "media_type": facts.media_type},
    )


def audio(context: StageContext) -> StageOutput:
    """16 kHz mono sound, which recognition works on."""
    to_speech_wav(context.input.path, facts_of(context), context.folder / "speech.wav", context.progress)
    return StageOutput(files=(OutputFile("speech.wav", "audio/wav"),))


def quality(context: StageContext) -> StageOutput:
    """How good the recording is, on its original channels; and, beside recognition, what it looks like."""
    facts = facts_of(context)
    figures = measure_file(context.input.path, facts.audio_index, facts.speech_track.rate)
    found = msgspec.to_builtins(figures)
    pictures, failed = looks.glance(context, facts, context.file("audio", "speech.wav"))
    return StageOutput(data={"warnings": [*found["warnings"], *failed]}, files=pictures, result={"quality": found})


def speech(context: StageContext) -> StageOutput:
    """Where somebody speaks."""
    found = find_speech(context.file("audio", "speech.wav"), progress=context.progress)
    (context.folder / "speech.json").write_bytes(msgspec.json.encode(found.regions))
    context.log(f"{len(found.regions)} stretches of speech, {found.seconds:.1f} s")
    summary = {
        "seconds": round(found.seconds, 3),
        "ratio": round(found.ratio, 4),
        "segments": len(found.regions),
    }
    warnings = [] if found.regions else [warning("no_speech", "Nobody speaks in this file.")]
    return StageOutput(
        data={"warnings": warnings},
        files=(OutputFile("speech.json", "application/json"),),
        result={"speech": summary},
    )


def transcribe(context: StageContext) -> StageOutput:
    """The words, with times."""
    transcript = engines.local(context) if context.params.engine == "local" else engines.bought(context)
    (context.folder / "words.json").write_bytes(msgspec.json.encode(transcript))
    return StageOutput(files=(OutputFile("words.json", "application/json"),), result=_result(transcript))


ARTIFACTS: tuple[tuple[str, str, Renderer], ...] = (
    ("transcript.txt", "text/plain; charset=utf-8", documents.timed_text),
    ("transcript_plain.txt", "text/plain; charset=utf-8", documents.plain_text),
    ("transcript.srt", "application/x-subrip", subtitles.srt),
    ("transcript.vtt", "text/vtt; charset=utf-8", subtitles.vtt),
    ("transcript.json", "application/json", documents.transcript_json),
    (
        "transcript.docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        documents.docx_bytes,
    ),
    ("document.json", "application/json", documents.document_json),
)


def artifacts(context: StageContext) -> StageOutput:
    """The files a client takes away. One that cannot be made is a warning; the others are made all the same."""
    words = context.file("transcribe", "words.json").read_bytes()
    transcript = msgspec.json.decode(words, type=Transcript)
    corrected = _corrected(transcript, context.params)
    transcript = corrected or transcript
    files: list[OutputFile] = []
    warnings = [w for name in ("quality", "speech") for w in context.data(name)["warnings"]]
    transcript, said = _described(context, transcript)
    warnings += [*said, *_unmet(context.params, transcript)]
    for number, (name, media_type, render) in enumerate(ARTIFACTS):
        try:
            made = render(transcript)
        except Exception as error:  # noqa: BLE001  (whatever a renderer trips over, it costs its own file only)
            context.log(f"{name}: {type(error).__name__}")
            warnings.append(warning("artifact_failed", f"{name} could not be made."))
        else:
            (context.folder / name).write_bytes(made.encode() if isinstance(made, str) else made)
            files.append(OutputFile(name, media_type, artifact=True))
        context.progress((number + 1) / len(ARTIFACTS), name)
    changed = _result(transcript) | {"corrected": True} if corrected else _description(transcript)
    return StageOutput(files=tuple(files), result={"warnings": warnings, **changed})


def _described(context: StageContext, transcript: Transcript) -> tuple[Transcript, list[dict[str, str]]]:
    """The transcript with a summary and chapters, where they are asked for and a language model is configured; what
    goes wrong with it is a warning."""
    if not (context.params.summarize and transcript.utterances and chapters.available()):
        return transcript, []
    try:
        made, dropped = chapters.described(transcript, context.ledger, context.folder)
    except MediaError as error:
        return transcript, [warning("llm_failed", f"The language model gave nothing: {error.message}")]
    said = f"{dropped} chapter(s) of the language model begin where nobody begins to speak, and were left out."
    return made, [warning("chapters_dropped", said)] if dropped else []


def _description(transcript: Transcript) -> dict[str, Any]:
    """What is written of the transcript, where somebody did."""
    told = {"summary": transcript.summary, "chapters": [msgspec.to_builtins(c) for c in transcript.chapters]}
    return {name: value for name, value in told.items() if value}


def _corrected(transcript: Transcript, params: TranscribeParams) -> Transcript | None:
    """The transcript as a person put it right; None where nobody did. MediaError: unknown_utterance,
    nothing_to_correct."""
    if params.corrected_text is not None:
        return corrections.correct(transcript, corrections.split(transcript, params.corrected_text))
    texts = {one.utterance: one.text for one in params.corrections}
    return corrections.correct(transcript, texts) if texts else None


def _unmet(params: TranscribeParams, transcript: Transcript) -> list[dict[str, str]]:
    """What was asked for and not given: said, not passed over."""
    unmet = []
    if params.diarize and params.engine not in ("local", "deepgram"):
        why = f"The engine {params.engine} does not tell speakers apart; no line names one."
        unmet.append(warning("diarization_unavailable", why))
    if params.summarize and not transcript.summary:
        unmet.append(
            warning("summary_unavailable", "There is no summary: no language model is configured, or it gave none.")
        )
    return unmet


def _result(transcript: Transcript) -> dict[str, Any]:
    text = transcript.text.encode()
    return {
        "language": transcript.language,
        "language_probability": transcript.language_probability,
        "duration": transcript.duration,
        "word_count": transcript.word_count,
        "confidence": msgspec.to_builtins(transcript.confidence),
        **({"translated_to": "en"} if transcript.translated else {}),
        "model": transcript.model,
        "processing_time": transcript.processing_time,
        "cost": transcript.cost,
        "text": text[:TEXT_LIMIT].decode(errors="ignore"),
        "text_truncated": len(text) > TEXT_LIMIT,
        **_description(transcript),
    }


_TWICE = RetryPolicy(tries=2)  # what can pass on a second try is a crash or a full disk; media errors are final

LOCAL_PARAMS = ("language", "model", "beam_size", "hint", "translate", "temperature")


def _placed(params: TranscribeParams) -> dict[str, Queue]:
    """Who buys runs where the keys are."""
    buys: dict[str, Queue] = {"transcribe": "io"} if params.engine != "local" else {}
    return buys | {"artifacts": "io"} if params.summarize else buys


pipeline = Pipeline(
    name="transcribe",
    placed=_placed,
    refuses=why_no_media,
    params=TranscribeParams,
    description="Speech in an audio or video file to a transcript, subtitles and documents.",
    stages=(
        stage(probe, deadline=300, retry=_TWICE, weight=1),
        stage(audio, needs=("probe",), deadline=3600, retry=_TWICE, weight=4, version="2", uses=()),
        stage(quality, needs=("probe", "audio"), deadline=3600, retry=_TWICE, weight=3, version="3", uses=()),
        stage(speech, needs=("audio",), deadline=3600, retry=_TWICE, weight=6, version="1", uses=()),
        stage(
            transcribe,
            needs=("probe", "audio", "speech"),
            deadline=8 * 3600,
            retry=_TWICE,
            weight=80,
            version="4",
            uses=(*LOCAL_PARAMS, "engine", "diarize", "speakers", "summarize", "pay_again"),
        ),
        stage(artifacts, needs=("quality", "speech", "transcribe"), deadline=600, retry=_TWICE, weight=2),
    ),
)
