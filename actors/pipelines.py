"""The pipelines on offer, by name, as the settings list them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from operator import attrgetter

from callsheet.pipelines.declare import Pipeline

Pipelines = Mapping[str, Pipeline]


class PipelineError(ValueError):
    """A pipeline that the settings name cannot be had. The message is one line that says which and why."""


def load_pipelines(references: Iterable[str]) -> dict[str, Pipeline]:
    """The pipelines behind `package.module:attribute`, by their own names, in the order given. Raises PipelineError."""
    found: dict[str, Pipeline] = {}
    for reference in references:
        pipeline = _load(reference)
        if pipeline.name in found:
            raise PipelineError(f"{reference}: there is a pipeline {pipeline.name!r} already")
        found[pipeline.name] = pipeline
    return found


def _load(reference: str) -> Pipeline:
    module, _, attribute = reference.partition(":")
    try:
        pipeline = attrgetter(attribute)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"{reference}: {error}") from error
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"{reference} is a {type(pipeline).__name__}, not a Pipeline")
    return pipeline
