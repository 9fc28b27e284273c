"""The pipelines, with stages that stop in the middle of their work until the test lets them go on.

A stage stops at its first word of progress (a clip when it renders), or at its end if it says none, says so with
`begun-STAGE`, and stays there unless there is a file `go-STAGE`, both in the job's folder of marks.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from callsheet.pipelines import preview as previewing
from callsheet.pipelines import restyle as restyling
from callsheet.pipelines import shorts as shortening
from callsheet.pipelines import transcribe as transcribing
from callsheet.pipelines.declare import Pipeline, Stage, StageContext, StageFunction, StageOutput
from tests.stages.tricks import mark


class Holding:
    """A stage's context that holds the stage."""

    def __init__(self, context: StageContext, stage: str) -> None:
        self._context, self._stage = context, stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def progress(self, fraction: float, message: str = "") -> None:
        self._context.progress(fraction, message)
        if message != "looking":
            self.hold()

    def hold(self) -> None:
        if not (Path(self._context.params.marks) / f"go-{self._stage}").exists():
            mark(self._context, f"begun-{self._stage}", str(os.getpid()))
            while True:
                signal.pause()


def held(stage: Stage) -> Stage:
    function: StageFunction = stage.run

    def run(context: StageContext) -> StageOutput:
        number = "" if context.item is None else f":{context.item['number']}"
        holding = Holding(context, f"{stage.spec.name}{number}")
        output = function(holding)
        holding.hold()
        return output

    # Nothing is used again here, and each stage sees `marks`.
    spec = msgspec.structs.replace(stage.spec, reuse="", uses=None)
    return msgspec.structs.replace(stage, run=run, spec=spec)


def holding(pipeline: Pipeline) -> Pipeline:
    """The same, with a param more: `marks`, the folder of signals."""
    params = msgspec.defstruct(
        "Held", [("marks", str, "")], bases=(pipeline.params,), frozen=True, forbid_unknown_fields=True
    )
    return Pipeline(f"held_{pipeline.name}", params, tuple(map(held, pipeline.stages)))


transcribe = holding(transcribing.pipeline)
shorts = holding(shortening.pipeline)
restyle = holding(restyling.pipeline)
preview = holding(previewing.pipeline)
PIPELINES = {one.name: one for one in (transcribe, shorts, restyle, preview)}
REFERENCES = ",".join(f"{__name__}:{name.removeprefix('held_')}" for name in PIPELINES)
