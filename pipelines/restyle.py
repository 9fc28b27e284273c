"""The pipeline `restyle`: a video made to look otherwise, with its sound as it was.

probe ─▶ reference ─▶ video ─▶ render ─┬▶ waveform
                                       └▶ storyboard

`reference` and `video` are the paid steps of the remote modes, each a stage of its own whose output is kept; in the
mode `look`, and wherever nothing has to be bought, they are over at once. See docs/restyle.md.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from callsheet.jobs.graph import RetryPolicy
from callsheet.media import compose, frames, looks, lut, matte, storyboard
from callsheet.media.containers import why_no_media
from callsheet.media.errors import MediaError
from callsheet.media.probe import MediaFacts
from callsheet.media.probe import probe as probe_file
from callsheet.media.providers.web import bad_answer
from callsheet.pipelines import looks as pictures
from callsheet.pipelines import restyle_remote as remote
from callsheet.pipelines.common import facts_of
from callsheet.pipelines.declare import OutputFile, Pipeline, StageContext, StageOutput, stage
from callsheet.pipelines.restyle_params import RestyleParams, check, check_size, limits_for

RESULT = "restyled"


def probe(context: StageContext) -> StageOutput:
    """Check the file, the params and the configuration, before any work is done and any money is spent."""
    facts = probe_file(context.input.path, limits_for(context.params), need_sound=False)
    frames.picture_of(facts)
    check(context.params, facts)
    remote.check(context.params)
    return StageOutput(
        data={"facts": msgspec.to_builtins(facts)},
        input={"duration": facts.duration, "media_type": facts.media_type},
    )


def reference(context: StageContext) -> StageOutput:
    """Paid: the first frame, relit; or a background, generated."""
    return remote.reference(context, _payable(context))


def video(context: StageContext) -> StageOutput:
    """Paid: the video in the light of that frame; or its matte."""
    return remote.video(context, _payable(context))


def _payable(context: StageContext) -> MediaFacts:
    """The facts, held against the params again: a retry may have changed those after `probe`, and this costs."""
    facts = facts_of(context)
    check_size(context.params, facts)
    remote.check(context.params)
    return facts


def render(context: StageContext) -> StageOutput:
    """The result, with the sound of the source copied packet by packet."""
    facts = facts_of(context)
    check_size(context.params, facts)
    container = frames.container_for(facts)
    target = context.folder / f"{RESULT}{container.suffix}"
    {"look": _look, "relight": _relit, "background": _replaced}[context.params.mode](context, facts, target)
    made = probe_file(target, limits_for(context.params, bought=True), need_sound=False)
    shown = {"file": target.name, "mode": context.params.mode, "video": msgspec.to_builtins(made.video)}
    return StageOutput(
        data={"file": target.name},
        files=(OutputFile(target.name, container.media_type, artifact=True),),
        result={"restyled": {**shown, "duration": made.duration}},
    )


def _look(context: StageContext, facts: MediaFacts, target: Path) -> None:
    source, params = context.input.path, context.params
    if params.look in looks.GRADED:
        table = lut.parse_cube(params.lut_text()) if params.look == "lut" else lut.built_in(params.look)
        graded = table.mixed(params.intensity)
        looks.graded(source, facts, target, graded, vignette=params.vignette, progress=context.progress)
    elif params.look in looks.DRAWN:
        looks.drawn(source, facts, target, params.look, params.intensity, progress=context.progress)
    else:
        looks.painted(
            source,
            facts,
            target,
            params.style,
            params.intensity,
            side=params.detail,
            keep_colors=params.keep_colors,
            smoothing=params.smoothing,
            progress=context.progress,
        )


def _relit(context: StageContext, facts: MediaFacts, target: Path) -> None:
    made, found = _bought(context)
    compose.with_sound_of(context.input.path, facts, made, found, target)


def _replaced(context: StageContext, facts: MediaFacts, target: Path) -> None:
    params = context.params
    background = remote.background(context)
    if params.matte == "people":
        _over(context, facts, target, background, matte.PeopleMatte())
        return
    made, found = _bought(context)
    read = compose.VideoMatte(made, frames.picture_of(found).index, compose.stretch(facts, found))
    try:
        _over(context, facts, target, background, read)
    finally:
        read.close()


def _bought(context: StageContext) -> tuple[Path, MediaFacts]:
    """The video that was bought, and facts about it. ProviderError: provider_bad_answer, where it is none."""
    made = remote.bought(context, "video", remote.VIDEO)
    try:
        found = probe_file(made, limits_for(context.params, bought=True), need_sound=False)
        frames.picture_of(found)
    except MediaError as error:
        raise bad_answer(f"its video is of no use ({error.code})") from None
    return made, found


def _over(
    context: StageContext,
    facts: MediaFacts,
    target: Path,
    background: compose.Background,
    matting: compose.Matting,
) -> None:
    softness, progress = context.params.edge_softness, context.progress
    compose.over_background(
        context.input.path, facts, target, matting, background, softness=softness, progress=progress
    )


def draw_storyboard(context: StageContext) -> StageOutput:
    """The contact sheet of the result."""
    made = context.file("render", context.data("render")["file"])
    found = probe_file(made, limits_for(context.params, bought=True), need_sound=False)
    sheet, track = (context.folder / file.name for file in pictures.STORYBOARD)
    storyboard.write(made, found, sheet, track, context.progress)
    return StageOutput(files=pictures.STORYBOARD)


_TWICE, _ONCE = RetryPolicy(tries=2), RetryPolicy(tries=1)
_PATIENT = RetryPolicy(tries=4, base=2.0, cap=60.0)  # another try waits for the same order: it buys nothing twice

pipeline = Pipeline(
    name="restyle",
    refuses=why_no_media,
    params=RestyleParams,
    description="A video in another look, another light, or before another background; its sound stays as it is.",
    stages=(
        stage(probe, deadline=300, retry=_TWICE, weight=1),
        stage(reference, needs=("probe",), queue="io", deadline=1800, retry=_PATIENT, weight=5),
        stage(video, needs=("probe", "reference"), queue="io", deadline=3600, retry=_PATIENT, weight=20),
        stage(
            render,
            needs=("probe", "reference", "video"),
            deadline=8 * 3600,
            retry=_TWICE,
            weight=70,
            version="2",
        ),
        pictures.waveform_stage(needs=("probe", "render")),
        stage(draw_storyboard, name="storyboard", needs=("render",), retry=_ONCE, may_fail=True, weight=0.5),
    ),
)
