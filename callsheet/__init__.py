"""Callsheet: a self-hosted media job service in which every job has exactly one owner.

What a pipeline of your own is made of: see the README and `examples/`.
"""

from callsheet.pipelines.declare import InputFile, OutputFile, Pipeline, StageContext, StageError, StageOutput, stage

__version__ = "0.1.0"
__all__ = ["InputFile", "OutputFile", "Pipeline", "StageContext", "StageError", "StageOutput", "stage"]
