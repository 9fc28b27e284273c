"""`callsheet check FILE`: is that a pipeline, what does it take, and, with an input, what does it make of it?"""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import typer

from callsheet.actors.pipelines import PipelineError
from callsheet.actors.stages.child_wire import Advanced, Done, FromChild, Raised, Said
from callsheet.actors.stages.local_run import LocalRun
from callsheet.config.settings import Settings
from callsheet.jobs.graph import GraphError
from callsheet.jobs.job import Job
from callsheet.media import weights
from callsheet.pipelines.declare import Pipeline


def check(reference: str, settings: Settings, source: Path | None, params: str | None, output: Path | None) -> bool:
    """Describe the pipeline in a file, `FILE` or `FILE:attribute`; run it if there is an input. Whether all is well.
    Params that are given are checked, input or not.

    Raises PipelineError when there is none, ValueError for params that it does not take.
    """
    pipeline = find(reference)
    typer.echo(describe(pipeline))
    if source is None and params is None:
        return True
    given = _checked(pipeline, params or "{}")
    if source is None:
        return True
    source, output = source.resolve(), output.resolve() if output else None  # a run may change the current folder
    weights.configure(settings.models.resolve())
    with tempfile.TemporaryDirectory(prefix="callsheet-check-") as root:
        runner = LocalRun(pipeline, Path(root), Teller())
        job = runner.run(source, given)
        _show(job, runner, output)
    return job.status == "completed"


def find(reference: str) -> Pipeline:
    """The one pipeline that a file declares, or the one it calls by that name. Raises PipelineError."""
    path, _, attribute = reference.partition(":")
    file = Path(path).resolve()
    if not file.is_file():
        raise PipelineError(f"there is no file {path}")
    if file.suffix != ".py":
        raise PipelineError(f"{path} is no Python file; a file to run it on comes after --input")
    module = _imported(file)
    found = {name: value for name, value in vars(module).items() if isinstance(value, Pipeline)}
    if attribute:
        found = {name: value for name, value in found.items() if name == attribute}
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise PipelineError(f"{path} must declare one pipeline, or you say which as {path}:NAME; there is: {names}")
    return next(iter(found.values()))


def _imported(file: Path) -> ModuleType:
    """The file as a module, by the name under which a service finds it. Raises PipelineError; of a traceback the lines
    from the file on are shown, not ours before them."""
    sys.path.insert(0, str(file.parent))
    try:
        module = import_module(file.stem)
    except GraphError as error:  # it says itself what is wrong
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        raise PipelineError(f"{file.name}, line {lines[-1]}: {error}" if lines else str(error)) from None
    except Exception as error:  # noqa: BLE001  it is shown, whatever it is
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(file):
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        raise PipelineError(f"{file.name} cannot be imported") from None
    if module.__file__ != str(file):
        raise PipelineError(f"{file.name} has the name of another module, {module.__file__}: give it one of its own")
    return module


def describe(pipeline: Pipeline) -> str:
    """The pipeline as a person reads it: its stages with what they need, and its params."""
    lines = [f"{pipeline.name}: {pipeline.description}".rstrip(": "), "", "stages"]
    for spec in pipeline.specs:
        after = f"after {', '.join(spec.needs)}" if spec.needs else "at once"
        traits = [after, f"queue {spec.queue}"]
        traits += [f"once for each item of {spec.each}"] if spec.each else []
        traits += ["may fail"] if spec.may_fail else []
        traits += ["reused"] if spec.reuse else []
        lines.append(f"  {spec.name:<14} {'; '.join(traits)}")
    lines += ["", "params (JSON Schema)", msgspec.json.format(msgspec.json.encode(_schema(pipeline))).decode()]
    return "\n".join(lines)


class Teller:
    """Prints what stages say: a line each, and their progress in steps of a quarter."""

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def __call__(self, stage: str, heard: FromChild) -> None:
        """Hear something from a stage."""
        match heard:
            case Advanced(fraction=fraction, message=message):
                if (quarter := int(fraction * 4)) > self._shown.get(stage, 0):
                    self._shown[stage] = quarter
                    typer.echo(f"  {stage:<14} {fraction:4.0%} {message}")
            case Said(line=line):
                typer.echo(f"  {stage:<14}      {line}")
            case Done():
                typer.echo(f"  {stage:<14} done")
            case Raised(code=code, message=message, details=details):
                typer.echo(f"  {stage:<14} failed: {code}: {message}")
                typer.echo(details, err=True)
            case _:
                pass


def _schema(pipeline: Pipeline) -> dict[str, Any]:
    return msgspec.json.schema(pipeline.params)


def _checked(pipeline: Pipeline, params: str) -> dict[str, Any]:
    try:
        converted = msgspec.json.decode(params, type=pipeline.params, strict=True)
    except msgspec.MsgspecError as error:
        raise ValueError(f"--params: {error}") from None
    return dict(msgspec.to_builtins(converted))


def _show(job: Job, runner: LocalRun, output: Path | None) -> None:
    typer.echo(f"\n{job.status}")
    if job.error:
        typer.echo(f"{job.error.stage}: {job.error.code}: {job.error.message}")
    typer.echo(msgspec.json.format(msgspec.json.encode(job.result)).decode())
    for file in job.artifacts:
        typer.echo(f"  {file.name}  {file.media_type}  {file.bytes} bytes")
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(runner.path(file), output / file.name)
