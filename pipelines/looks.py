"""What any pipeline can add, since people would rather look than read: a waveform and a contact sheet.

As stages of their own they may fail, and weigh little: a picture that cannot be made costs nobody his job. Both work on
every input: one without sound has no waveform, one without moving pictures no contact sheet, and the log says so. Where
the stages are given, `glance` makes both within one of them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from callsheet.jobs.graph import RetryPolicy
from callsheet.media import probe, storyboard, waveform
from callsheet.media.limits import current
from callsheet.pipelines.common import warning
from callsheet.pipelines.declare import OutputFile, Stage, StageContext, StageFunction, StageOutput, stage

WAVEFORM = (
    OutputFile("waveform.json", "application/json", artifact=True),
    OutputFile("waveform.png", "image/png", artifact=True),
)
STORYBOARD = (
    OutputFile("storyboard.jpg", "image/jpeg", artifact=True),
    OutputFile("storyboard.vtt", "text/vtt; charset=utf-8", artifact=True),
)
SHORTEST = 0.001  # seconds: a picture can be made of any length, of a single frame or a blip, too


def waveform_stage(needs: tuple[str, ...] = ("probe",)) -> Stage:
    """The waveform of the input, as `waveform.json` (peaks) and `waveform.png`, in a stage `waveform`."""
    return _stage(draw_waveform, "waveform", needs)


def storyboard_stage(needs: tuple[str, ...] = ("probe",)) -> Stage:
    """The contact sheet of the input, as `storyboard.jpg` and `storyboard.vtt`, in a stage `storyboard`."""
    return _stage(draw_storyboard, "storyboard", needs)


def _stage(function: StageFunction, name: str, needs: tuple[str, ...]) -> Stage:
    once = RetryPolicy(tries=1)
    return stage(
        function,
        name=name,
        needs=needs,
        deadline=1800,
        retry=once,
        may_fail=True,
        weight=0.5,
        version="2",
        uses=(),
    )


def glance(
    context: StageContext, facts: probe.MediaFacts, speech: Path
) -> tuple[tuple[OutputFile, ...], list[dict[str, str]]]:
    """Both within another stage, which goes on without what cannot be made: the files, and a warning for each look
    that is not among them. `speech` is the sound as recognition reads it."""

    def draw(*paths: Path) -> None:
        waveform.write(waveform.measure_speech(speech), *paths)

    def sheet(*paths: Path) -> None:
        storyboard.write_apart(context.input.path, facts, *paths)

    wanted = [("waveform", WAVEFORM, draw)] + ([("contact sheet", STORYBOARD, sheet)] if facts.video else [])
    files: list[OutputFile] = []
    warnings = []
    for name, made, make in wanted:
        try:
            make(*(context.folder / file.name for file in made))
            files += made
        except Exception as error:  # noqa: BLE001  (whatever it trips over, it costs its own files only)
            context.log(f"{name}: {error}")
            warnings.append(warning("artifact_failed", f"The {name} could not be made."))
    return tuple(files), warnings


def look_at(context: StageContext) -> probe.MediaFacts:
    """Facts about the input, whether or not it has sound. Raises MediaError."""
    limits = msgspec.structs.replace(current(), min_seconds=SHORTEST)
    return probe.probe(context.input.path, limits, need_sound=False)


def draw_waveform(context: StageContext) -> StageOutput:
    """The stage `waveform`."""
    facts = look_at(context)
    if not facts.audio:
        context.log("There is no sound, and so no waveform.")
        return StageOutput()
    peaks, picture = (context.folder / file.name for file in WAVEFORM)
    waveform.write(waveform.measure(context.input.path, facts), peaks, picture)
    return StageOutput(files=WAVEFORM)


def draw_storyboard(context: StageContext) -> StageOutput:
    """The stage `storyboard`."""
    facts = look_at(context)
    if facts.video is None:
        context.log("There is no moving picture, and so no contact sheet.")
        return StageOutput()
    sheet, track = (context.folder / file.name for file in STORYBOARD)
    made = storyboard.write(context.input.path, facts, sheet, track, context.progress)
    return StageOutput(files=STORYBOARD, result={"storyboard": msgspec.to_builtins(made)})
