"""The pipelines on offer, by name: those that the settings list, and those that installed packages bring."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from pathlib import Path

from callsheet.pipelines.declare import Pipeline

GROUP = "callsheet.pipelines"  # of the entry points of a package that offers some
Pipelines = Mapping[str, Pipeline]


class PipelineError(ValueError):
    """A pipeline that the settings name cannot be had. The message is one line that says which and why."""


def load_pipelines(references: Iterable[str]) -> dict[str, Pipeline]:
    """The pipelines behind `package.module:attribute`, by their own names, in the order given, and then those that
    installed packages offer. Raises PipelineError."""
    found: dict[str, Pipeline] = {}
    for reference in (*references, *installed()):
        pipeline = _load(reference)
        if pipeline.name in found:
            raise PipelineError(f"{reference}: there is a pipeline {pipeline.name!r} already")
        found[pipeline.name] = pipeline
    return found


def installed() -> list[str]:
    """The pipelines that installed packages offer, by their entry points, in the order of their names."""
    return [entry.value for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)]


def _load(reference: str) -> Pipeline:
    module, _, attribute = reference.partition(":")
    try:
        pipeline = attrgetter(attribute)(import_module(module))
    except ModuleNotFoundError as error:
        raise PipelineError(f"{reference}: {error}; is its folder on PYTHONPATH?") from error
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"{reference}: {error}") from error
    except Exception as error:  # whatever it is, it is a mistake in that file
        raise PipelineError(f"{reference}: {type(error).__name__}: {error}{_place(error)}") from error
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"{reference} is a {type(pipeline).__name__}, not a Pipeline")
    return pipeline


def _place(error: Exception) -> str:
    """Where in the file it went wrong: the line that Python was told to run, not the one of ours that minded it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name == "<module>"]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
