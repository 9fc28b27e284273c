"""The pipeline `shorts`: a long video to short clips, with captions, framed for phones.

probe ─┬▶ audio ─▶ speech ─▶ transcribe ─┬▶ highlights ─▶ clip:0 clip:1 … ─▶ collect
       ├▶ shots ─────────────────────────┘
       └▶ waveform, storyboard
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from callsheet.jobs.graph import RetryPolicy
from callsheet.media import highlights as scoring
from callsheet.media import judged
from callsheet.media import shots as shot_finder
from callsheet.media.blurb import written
from callsheet.media.containers import why_no_media
from callsheet.media.errors import MediaError
from callsheet.media.material import Candidate, Choice, Material, Wish, levels
from callsheet.media.pictures import look
from callsheet.media.probe import MediaFacts
from callsheet.media.shots import Shots
from callsheet.pipelines import transcribe as transcription
from callsheet.pipelines.common import facts_of, warning
from callsheet.pipelines.declare import OutputFile, Pipeline, StageContext, StageOutput, stage
from callsheet.pipelines.looks import storyboard_stage, waveform_stage
from callsheet.pipelines.shorts_clip import clip, picture_of, transcript_of
from callsheet.pipelines.shorts_params import ShortsParams
from callsheet.pipelines.transcribe_params import TranscribeParams

SPEECH_PARAMS = ("language", "model", "hint")
choose: scoring.Chooser = scoring.choose  # what picks among the candidates; it may be another


def probe(context: StageContext) -> StageOutput:
    """Check the file and what was asked for, before any work is done."""
    found = transcription.probe(Spoken(context), need_sound=False)
    facts = msgspec.convert(found.data["facts"], MediaFacts)
    if facts.video is None:
        raise MediaError("no_video_stream", "The file holds no moving picture.")
    if facts.duration < context.params.clip_min_seconds:
        raise MediaError("media_too_short", "The file is shorter than the shortest clip that was asked for.")
    picture = look(context.input.path, facts.video.index)
    return msgspec.structs.replace(found, data=found.data | {"picture": msgspec.to_builtins(picture)})


def transcribe(context: StageContext) -> StageOutput:
    """The words, with times."""
    return transcription.transcribe(Spoken(context))


def shots(context: StageContext) -> StageOutput:
    """Where the picture cuts, and how much moves."""
    found = shot_finder.scan(context.input.path, picture_of(context), facts_of(context).duration, context.progress)
    (context.folder / "shots.json").write_bytes(msgspec.json.encode(found))
    context.log(f"{len(found.cuts) + 1} shots")
    return StageOutput(files=(OutputFile("shots.json", "application/json"),))


def highlights(context: StageContext) -> StageOutput:
    """Choose the clips, and write what stands beside them."""
    params, transcript = context.params, transcript_of(context)
    material = Material(
        facts_of(context).duration,
        transcript.words,
        levels(context.file("audio", "speech.wav")),
        msgspec.json.decode(context.file("shots", "shots.json").read_bytes(), type=Shots),
    )
    wish = Wish(params.target_clips, params.clip_min_seconds, params.clip_max_seconds)
    found = scoring.candidates(material, wish)
    context.progress(0.7, f"{len(found)} candidates")
    choices, notes = _choices(context, found, material, wish)
    chosen = scoring.settle(choices, material, wish)
    inside = [[w for w in transcript.words if c.start <= w.start and w.end <= c.end] for c in chosen]
    clips = [written(choice, words, n) for n, (choice, words) in enumerate(zip(chosen, inside, strict=True))]
    short = f"The material gives {len(clips)} clips of that length, not {wish.count}."
    warnings = notes + ([warning("fewer_clips", short)] if len(clips) < wish.count else [])
    return StageOutput(
        data={"clips": len(clips)},
        items=tuple({"number": n, "choice": msgspec.to_builtins(clip)} for n, clip in enumerate(clips)),
        result={"warnings": warnings + context.data("speech")["warnings"]},
    )


def _choices(
    context: StageContext, found: Sequence[Candidate], material: Material, wish: Wish
) -> tuple[Sequence[Choice], list[dict[str, str]]]:
    """The language model's choices if it is to choose; those of the scorer else, and where it fails, with a warning."""
    if context.params.chooser == "offline" or not material.words:
        return choose(found, wish), []
    dropped: list[str] = []
    try:
        made = judged.choose(
            found, wish, material.words, ledger=context.ledger, folder=context.folder, tell=dropped.append
        )
    except MediaError as error:
        return choose(found, wish), [warning("llm_failed", f"The scorer chose, since: {error.message}")]
    for line in dropped:
        context.log(line)
    said = f"{len(dropped)} clip(s) of the language model do not agree with the transcript, and were left out."
    return made, [warning("choices_dropped", said)] if dropped else []


def collect(context: StageContext) -> StageOutput:
    """What was made, and what was not, by the word of those that made it."""
    made = [context.data(name)["clip"] for name in context.instances("clip") if ":" in name]
    numbers = {one["number"] for one in made}
    count = context.data("highlights")["clips"]
    missing = [n for n in range(count) if n not in numbers]
    (context.folder / "shorts.json").write_bytes(msgspec.json.encode({"clips": made, "failed_clips": missing}))
    warnings = [warning("clip_failed", f"Clip {n} could not be made; its stage says why.") for n in missing]
    unused = [n for n in sorted(map(int, context.params.edits)) if n >= count]
    warnings += [
        warning("edit_unused", f"There is no clip {n} to edit: there are {count}, counted from 0.") for n in unused
    ]
    return StageOutput(
        files=(OutputFile("shorts.json", "application/json", artifact=True),),
        result={"clips": made, "failed_clips": missing, "warnings": warnings},
    )


class Spoken:
    """A stage's context for the stages of `transcribe`: its params are theirs, everything else is its own."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self.params = TranscribeParams(**{name: getattr(context.params, name) for name in SPEECH_PARAMS})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


_TWICE = RetryPolicy(tries=2)  # what can pass on a second try is a crash or a full disk; media errors are final

pipeline = Pipeline(
    name="shorts",
    placed=lambda params: {"highlights": "io"} if params.chooser == "llm" else {},
    refuses=why_no_media,
    params=ShortsParams,
    description="A long video to short clips: highlights chosen, framed for phones, captioned, levelled.",
    stages=(
        stage(probe, deadline=300, retry=_TWICE, weight=1),
        stage(transcription.audio, needs=("probe",), retry=_TWICE, weight=2, version="2", uses=()),
        stage(transcription.speech, needs=("audio",), retry=_TWICE, weight=3, version="1", uses=()),
        stage(
            transcribe,
            needs=("probe", "audio", "speech"),
            deadline=8 * 3600,
            retry=_TWICE,
            weight=40,
            version="2",
            uses=SPEECH_PARAMS,
        ),
        stage(shots, needs=("probe",), deadline=8 * 3600, retry=_TWICE, weight=14, version="1", uses=()),
        stage(highlights, needs=("probe", "audio", "speech", "transcribe", "shots"), retry=_TWICE, weight=1),
        stage(
            clip,
            needs=("probe", "audio", "transcribe", "highlights"),
            each="highlights",
            may_fail=True,
            retry=_TWICE,
            weight=38,
        ),
        stage(collect, needs=("highlights", "clip"), deadline=300, retry=_TWICE, weight=1),
        waveform_stage(),
        storyboard_stage(),
    ),
)
