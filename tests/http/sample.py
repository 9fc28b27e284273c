"""A pipeline for the tests of the surface: its stages are played by the test, not run."""

from __future__ import annotations

from typing import Annotated

import msgspec

from callsheet.jobs.graph import RetryPolicy
from callsheet.pipelines.declare import Pipeline, StageContext, StageOutput, stage


class SampleParams(msgspec.Struct, frozen=True):
    level: Annotated[int, msgspec.Meta(ge=1, le=9)] = 3
    tags: list[str] = []


def one(_context: StageContext) -> StageOutput:
    return StageOutput()


def two(_context: StageContext) -> StageOutput:
    return StageOutput()


pipeline = Pipeline(
    "sample",
    SampleParams,
    (stage(one, retry=RetryPolicy(tries=1)), stage(two, needs=("one",), retry=RetryPolicy(tries=1))),
    "For tests.",
    refuses=lambda head: "it asks for it" if head.startswith(b"refuse me") else None,
)
fetching = Pipeline("fetching", SampleParams, (stage(one, name="fetch"),), "It has a stage of that name itself.")


class DemandingParams(msgspec.Struct, frozen=True):
    title: str


demanding = Pipeline("demanding", DemandingParams, pipeline.stages, "It does not go without a param.")
