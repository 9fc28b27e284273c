"""The pipelines that are run here."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from callsheet.pipelines.declare import Pipeline, StageContext, StageOutput, stage


class NoParams(msgspec.Struct, frozen=True):
    """Nothing to choose."""


def nothing(context: StageContext) -> StageOutput:
    """Report twice, and nothing else.

    Once progress, once a partial result: the same progress twice within half a second would become one report.
    """
    context.progress(0.5)
    context.partial({"half": True})
    return StageOutput()


def stuck(context: StageContext) -> StageOutput:
    """Never come back: a child process that waits, and a call into native code that looks at no signal."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    context.partial({"group": os.getpgid(0)})
    return StageOutput(data={"sum": sum(range(10**15))})


NOTHING = Pipeline(
    name="noop",
    params=NoParams,
    stages=(
        stage(nothing, name="first"),
        stage(nothing, name="second", needs=("first",)),
        stage(nothing, name="third", needs=("second",)),
    ),
)
STUCK = Pipeline(name="stuck", params=NoParams, stages=(stage(stuck),))
