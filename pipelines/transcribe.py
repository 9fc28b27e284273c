"""The pipeline `transcribe`: speech in any audio or video file to a transcript, subtitles and documents.

probe ─▶ audio ─┬▶ quality ─────────────┐
                └▶ speech ─▶ transcribe ─▶ artifacts
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from callsheet.jobs.graph import Queue, RetryPolicy
from callsheet.media import chapters, corrections, documents, limits, recognise, subtitles, weights
from callsheet.media.audio import to_speech_wav
from callsheet.media.engines import remote
from callsheet.media.engines.base import Wanted
from callsheet.media.errors import MediaError
from callsheet.media.probe import MediaFacts
from callsheet.media.probe import probe as probe_file
from callsheet.media.quality import measure_file
from callsheet.media.speech import Region, find_speech
from callsheet.media.transcript import Transcript, Utterance, build, utterances_of
from callsheet.pipelines.declare import OutputFile, Pipeline, StageContext, StageOutput, stage

TEXT_LIMIT = 64 * 1024  # bytes of the transcript that the job itself carries; the files hold all of it
PARTIAL_SECONDS = 1.0
Renderer = Callable[[Transcript], str | bytes]


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is really said in an utterance."""

    utterance: Annotated[int, msgspec.Meta(ge=1, description="Its id, as in transcript.json.")]
    text: Annotated[str, msgspec.Meta(max_length=5000, description="Its text; an empty one leaves it out.")]


class TranscribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may ask of a transcription."""

    engine: Annotated[
        remote.Engine,
        msgspec.Meta(
            description="Who recognises: this server (`local`), or a paid service where one is configured: Deepgram, "
            "or an endpoint that speaks OpenAI's protocol. A retry cannot turn from `local` to another."
        ),
    ] = "local"
    language: (
        Annotated[
            str, msgspec.Meta(pattern="^[a-z]{2,3}$", description="Language spoken, ISO 639-1. Detected if absent.")
        ]
        | None
    ) = None
    model: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-z0-9][a-z0-9.-]*$",
            max_length=64,
            description="With `local`, the Whisper model: base, small, large-v3 ..., or a folder of the server's "
            "models folder.",
        ),
    ] = "base"
    beam_size: Annotated[
        int, msgspec.Meta(ge=1, le=10, description="Alternatives kept while decoding. More is slower.")
    ] = 1
    hint: (
        Annotated[str, msgspec.Meta(max_length=500, description="Names and terms to expect, as a sentence.")] | None
    ) = None
    translate: Annotated[bool, msgspec.Meta(description="Write in English what is said in another language.")] = False
    temperature: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="Where decoding begins: 0 takes the likeliest words, more guesses.")
    ] = 0.0
    diarize: Annotated[
        bool, msgspec.Meta(description="Tell speakers apart: Deepgram does, the other engines warn that they cannot.")
    ] = False
    summarize: Annotated[
        bool,
        msgspec.Meta(
            description="Add a summary, if the engine writes one or a language model is configured; that "
            "adds chapters, too."
        ),
    ] = False
    pay_again: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=100,
            description="How many orders whose fate is unknown, and which may have been paid, you put up with. See the "
            "error `payment_unknown`.",
        ),
    ] = 0
    corrections: Annotated[
        tuple[Correction, ...],
        msgspec.Meta(
            max_length=5000,
            description="Utterances put right: for a retry from `artifacts`, which recognises nothing again.",
        ),
    ] = ()
    corrected_text: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=200_000,
                description="Instead: the whole text put right. Words keep their times where they match.",
            ),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        if self.corrections and self.corrected_text is not None:
            raise ValueError("a transcript is corrected by utterances, or as a whole text, not both")
        if len({one.utterance for one in self.corrections}) < len(self.corrections):
            raise ValueError("an utterance is corrected once")


def probe(context: StageContext) -> StageOutput:
    """Check the file and what was asked for, before any work is done."""
    engine = _check_engine(context.params)
    facts = probe_file(context.input.path)
    context.log(f"{facts.media_type}, {facts.duration:.1f} s, {len(facts.audio)} audio stream(s)")
    return StageOutput(
        data={"facts": msgspec.to_builtins(facts), **engine},
        input={"duration": facts.duration, "media_type": facts.media_type},
    )


def _check_engine(params: TranscribeParams) -> dict[str, Any]:
    """What is recognised by whom, where that is not to be seen from the params. Raises MediaError."""
    if params.engine != "local":
        return {"engine": remote.check(params.engine, translate=params.translate)}
    recognise.check_language(params.language)
    weights.check_name(params.model)
    return {}


def audio(context: StageContext) -> StageOutput:
    """16 kHz mono sound, which recognition works on."""
    to_speech_wav(context.input.path, _facts(context), context.folder / "speech.wav", context.progress)
    return StageOutput(files=(OutputFile("speech.wav", "audio/wav"),))


def quality(context: StageContext) -> StageOutput:
    """How good the recording is, on its original channels."""
    facts = _facts(context)
    figures = measure_file(context.input.path, facts.audio_index, facts.speech_track.rate)
    found = msgspec.to_builtins(figures)
    return StageOutput(data={"warnings": found["warnings"]}, result={"quality": found})


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
    warnings = [] if found.regions else [_warning("no_speech", "Nobody speaks in this file.")]
    return StageOutput(
        data={"warnings": warnings},
        files=(OutputFile("speech.json", "application/json"),),
        result={"speech": summary},
    )


def transcribe(context: StageContext) -> StageOutput:
    """The words, with times."""
    transcript = _local(context) if context.params.engine == "local" else _remote(context)
    (context.folder / "words.json").write_bytes(msgspec.json.encode(transcript))
    return StageOutput(files=(OutputFile("words.json", "application/json"),), result=_result(transcript))


def _local(context: StageContext) -> Transcript:
    started, params = time.monotonic(), context.params
    regions = msgspec.json.decode(context.file("speech", "speech.json").read_bytes(), type=list[Region])
    partials = _Partials(context)
    heard = recognise.recognise(
        context.file("audio", "speech.wav"),
        regions,
        weights.model_folder(params.model),
        recognise.Options(
            language=params.language,
            beam_size=params.beam_size,
            hint=params.hint,
            translate=params.translate,
            temperature=params.temperature,
            threads=limits.current().threads,
        ),
        on_progress=context.progress,
        on_utterance=partials.add,
    )
    partials.flush()
    return build(
        heard.utterances,
        language=heard.language,
        language_probability=heard.language_probability,
        duration=_facts(context).duration,
        model=params.model,
        processing_time=time.monotonic() - started,
        translated=params.translate,
    )


def _remote(context: StageContext) -> Transcript:
    started, params, seconds = time.monotonic(), context.params, _facts(context).duration
    wanted = Wanted(
        wav=context.file("audio", "speech.wav"),
        seconds=seconds,
        language=params.language,
        translate=params.translate,
        hint=params.hint,
        temperature=params.temperature,
        diarize=params.diarize,
        summarize=params.summarize,
    )
    heard, model, cost = remote.hear(
        params.engine,
        wanted,
        context.folder,
        ledger=context.ledger,
        accepted_losses=params.pay_again,
        tell=context.progress,
    )
    return build(
        utterances_of(heard.words),
        language=heard.language,
        language_probability=heard.language_probability,
        duration=seconds,
        model=model,
        processing_time=time.monotonic() - started,
        translated=params.translate,
        cost=cost,
        summary=heard.summary,
    )


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
            (context.folder / name).write_bytes(made.encode() if isinstance(made, str) else made)
            files.append(OutputFile(name, media_type, artifact=True))
        except Exception as error:  # noqa: BLE001  (whatever a renderer trips over, it costs its own file only)
            context.log(f"{name}: {type(error).__name__}")
            warnings.append(_warning("artifact_failed", f"{name} could not be made."))
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
        return transcript, [_warning("llm_failed", f"The language model gave nothing: {error.message}")]
    said = f"{dropped} chapter(s) of the language model begin where nobody begins to speak, and were left out."
    return made, [_warning("chapters_dropped", said)] if dropped else []


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


class _Partials:
    """Hands utterances to watchers, about once a second at most."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.waiting: list[dict[str, Any]] = []
        self.sent = float("-inf")

    def add(self, utterance: Utterance) -> None:
        shown = {name: getattr(utterance, name) for name in ("id", "speaker", "start", "end", "text")}
        self.waiting.append(shown)
        if time.monotonic() - self.sent >= PARTIAL_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.context.partial({"utterances": self.waiting})
            self.waiting, self.sent = [], time.monotonic()


def _facts(context: StageContext) -> MediaFacts:
    return msgspec.convert(context.data("probe")["facts"], MediaFacts)


def _warning(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _unmet(params: TranscribeParams, transcript: Transcript) -> list[dict[str, str]]:
    """What was asked for and not given: said, not passed over."""
    unmet = []
    if params.diarize and params.engine != "deepgram":
        why = f"The engine {params.engine} does not tell speakers apart; no line names one."
        unmet.append(_warning("diarization_unavailable", why))
    if params.summarize and not transcript.summary:
        unmet.append(_warning("summary_unavailable", "Nobody here writes summaries of this; there is none."))
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
    params=TranscribeParams,
    description="Speech in an audio or video file to a transcript, subtitles and documents.",
    stages=(
        stage(probe, deadline=300, retry=_TWICE, weight=1),
        stage(audio, needs=("probe",), deadline=3600, retry=_TWICE, weight=4, version="1", uses=()),
        stage(quality, needs=("probe", "audio"), deadline=3600, retry=_TWICE, weight=3, version="1", uses=()),
        stage(speech, needs=("audio",), deadline=3600, retry=_TWICE, weight=6, version="1", uses=()),
        stage(
            transcribe,
            needs=("probe", "audio", "speech"),
            deadline=8 * 3600,
            retry=_TWICE,
            weight=80,
            version="2",
            uses=(*LOCAL_PARAMS, "engine", "diarize", "summarize", "pay_again"),
        ),
        stage(artifacts, needs=("quality", "speech", "transcribe"), deadline=600, retry=_TWICE, weight=2),
    ),
)
