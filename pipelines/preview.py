"""The pipeline `preview`: what is in a file, at a glance. For every input.

probe ─┬▶ waveform
       └▶ storyboard
"""

from __future__ import annotations

import msgspec

from callsheet.jobs.graph import RetryPolicy
from callsheet.media.containers import why_no_media
from callsheet.pipelines.declare import Pipeline, StageContext, StageOutput, stage
from callsheet.pipelines.looks import look_at, storyboard_stage, waveform_stage


class PreviewParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


def probe(context: StageContext) -> StageOutput:
    """What the file is."""
    facts = look_at(context)
    shown = msgspec.to_builtins(facts)
    return StageOutput(result={"media": shown}, input={"duration": facts.duration, "media_type": facts.media_type})


pipeline = Pipeline(
    name="preview",
    refuses=why_no_media,
    params=PreviewParams,
    description="What is in an audio or video file: its tracks, a waveform, a contact sheet.",
    stages=(
        stage(probe, deadline=300, retry=RetryPolicy(tries=2)),
        waveform_stage(),
        storyboard_stage(),
    ),
)
