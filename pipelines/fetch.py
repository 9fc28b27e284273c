"""The stage that gets the input of a job from an address, before the stages of its pipeline. See `media.download`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from callsheet.jobs.graph import FETCH, RetryPolicy
from callsheet.pipelines.declare import OutputFile, Pipeline, StageContext, StageOutput, stage

NAME = "callsheet.fetch"  # no pipeline on offer: what a child runs the stage `fetch` of any job from
FILE = "source"
DEADLINE = 6 * 3600.0


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the input is."""

    source_url: Annotated[str, msgspec.Meta(min_length=1)]


def fetch(run: StageContext) -> StageOutput:
    """Get the file, and say what it is."""
    from callsheet.media.download import download  # noqa: PLC0415  (what it needs is of no use to other stages)

    found = download(run.params.source_url, run.folder / FILE, progress=run.progress, log=run.log)
    facts = {"bytes": found.bytes, "sha256": found.sha256, "media_type": found.media_type}
    return StageOutput(files=(OutputFile(FILE, found.media_type),), input=facts)


pipeline = Pipeline(
    NAME,
    Params,
    (
        stage(
            fetch,
            name=FETCH,
            queue="io",
            deadline=DEADLINE,
            retry=RetryPolicy(tries=5, base=2.0, factor=4.0, cap=300.0),
        ),
    ),
)
