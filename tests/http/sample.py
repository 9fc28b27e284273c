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


class Place(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.5


class Part(msgspec.Struct, frozen=True):
    text: str
    loud: bool | None = None
    places: tuple[Place, ...] | None = None


class NestedParams(msgspec.Struct, frozen=True):
    level: Annotated[int, msgspec.Meta(le=9)] = 3
    sure: bool | None = None
    origin: Place = Place(0.25, 0.75)
    end: Place | None = None
    numbers: tuple[int, ...] = (1, 2)
    parts: Annotated[dict[str, Part], msgspec.Meta(max_length=2)] = {}


nested = Pipeline("nested", NestedParams, pipeline.stages, "Its params hold others.")
