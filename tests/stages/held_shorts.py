"""The pipeline `shorts` whose stages stop in the middle of their work, until the test lets them go on.

A stage stops at its first word of progress (a clip when it renders), or at its end if it says none, says so with
`begun`, and stays there unless there is a file `go-STAGE`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from callsheet.pipelines import shorts
from callsheet.pipelines.declare import Pipeline, Stage, StageContext, StageFunction, StageOutput
from tests.stages.tricks import mark


class Params(shorts.ShortsParams, frozen=True, forbid_unknown_fields=True):
    """`marks`: the folder of signals."""

    marks: str = ""


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
            mark(self._context, "begun", f"{self._stage} {os.getpid()}")
            while True:
                signal.pause()


def held(stage: Stage) -> Stage:
    function: StageFunction = stage.run

    def run(context: StageContext) -> StageOutput:
        holding = Holding(context, stage.spec.name)
        output = function(holding)
        holding.hold()
        return output

    # Nothing is used again here, and each stage sees `marks`.
    spec = msgspec.structs.replace(stage.spec, reuse="", uses=None)
    return msgspec.structs.replace(stage, run=run, spec=spec)


pipeline = Pipeline("shorts_held", Params, tuple(held(stage) for stage in shorts.pipeline.stages))
