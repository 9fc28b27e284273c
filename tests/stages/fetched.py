"""A pipeline that says what it was given."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from callsheet.pipelines.declare import Pipeline, StageContext, StageOutput, stage


class Params(msgspec.Struct, frozen=True):
    """`marks`: a folder in which each run leaves a file of its name."""

    marks: str = ""


def look(run: StageContext) -> StageOutput:
    given = run.input
    (Path(run.params.marks) / f"looked-{given.bytes}").touch()
    digest = hashlib.sha256(given.path.read_bytes()).hexdigest()
    said = {"sha256": digest, "bytes": given.bytes, "filename": given.filename, "media_type": given.media_type}
    return StageOutput(result=said)


pipeline = Pipeline("fetched", Params, (stage(look), stage(look, name="again", needs=("look",))))
