"""A pipeline `transcribe` for the tests of the surface: it takes what the real one takes; the test plays its stages."""

from __future__ import annotations

from callsheet.jobs.graph import RetryPolicy
from callsheet.pipelines.declare import Pipeline, StageContext, StageOutput, stage
from callsheet.pipelines.transcribe_params import TranscribeParams

AGAIN = RetryPolicy(tries=2, base=0.0, cap=0.0, jitter=0.0)


def probe(_context: StageContext) -> StageOutput:
    return StageOutput()


def transcribe(_context: StageContext) -> StageOutput:
    return StageOutput()


pipeline = Pipeline(
    "transcribe",
    TranscribeParams,
    (stage(probe, retry=RetryPolicy(tries=1)), stage(transcribe, needs=("probe",), retry=AGAIN)),
    "For tests.",
)
