"""Callsheet: a self-hosted media job service in which every job has exactly one owner.

What a pipeline of your own is made of: see docs/pipelines.md and `examples/`.
"""

from callsheet.jobs.graph import RetryPolicy
from callsheet.pipelines.declare import (
    InputFile,
    OutputFile,
    Pipeline,
    Stage,
    StageContext,
    StageError,
    StageOutput,
    pipeline,
    stage,
)

__version__ = "0.1.0"
__all__ = [
    "InputFile",
    "OutputFile",
    "Pipeline",
    "RetryPolicy",
    "Stage",
    "StageContext",
    "StageError",
    "StageOutput",
    "pipeline",
    "stage",
]
