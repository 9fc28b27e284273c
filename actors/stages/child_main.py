"""The stage child: a process that runs stages, one after the other, for one thread of a worker.

    python -P -u -m callsheet.actors.stages.child_main CONTROL LIFELINE PARENT

CONTROL and LIFELINE are file descriptors, PARENT is the worker's process id. It leads its own process group, which is
what a stage is stopped by. It knows nothing of Redis and is given no secret.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import resource
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from callsheet.actors.pipelines import PipelineError, Pipelines, load_pipelines
from callsheet.actors.stages.child_wire import Done, Raised, Ready, Request, Setup, receive
from callsheet.actors.stages.context import ChildContext, Speaker, Voice
from callsheet.config.process import die_with_parent
from callsheet.media.errors import FULL, no_room
from callsheet.media.providers.base import configure as configure_providers
from callsheet.pipelines.declare import Pipeline, StageError, StageOutput
from callsheet.pipelines.fetch import pipeline as fetching

MAX_VALUES = 256 * 1024  # bytes of JSON of each of data, result, items
PATH = re.compile(r"(?<![\w.])/(?:[^\s/'\"():,;]+/)*(?=[^\s/'\"():,;])")
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> None:
    """Run stages until the worker hangs up."""
    control_fd, lifeline, parent = map(int, arguments)
    die_with_parent(parent)
    guard_the_group(control_fd, lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # a native crash says where, in the worker's log
    voice = Voice(socket.socket(fileno=control_fd))
    setup = receive(voice.control)
    if not isinstance(setup, Setup):
        return
    try:
        pipelines = prepare(setup)
    except PipelineError as error:
        voice.send(Raised("bad_pipeline", str(error), details=traceback.format_exc()))
        return
    voice.send(Ready())
    while isinstance(request := receive(voice.control), Request):
        ending = run(request, pipelines, voice)
        sys.stdout.flush()
        voice.finish(replace(ending, clean=not left_something_running()))


def guard_the_group(control: int, lifeline: int) -> None:
    """Leave a guardian behind that kills the whole group when the worker dies, however it dies.

    The kernel kills only this process then, and not what a library or a tool started here. The worker holds the other
    end of `lifeline`, writes nothing, and cannot die without closing it. Forked before anything is loaded: 1 ms, 3 MB.
    """
    middle = os.fork()
    if middle > 0:
        os.close(lifeline)
        os.waitpid(middle, 0)
        adopt_orphans()
        return
    if os.fork() > 0:  # the guardian is nobody's child here, so that any child there is was left by a stage
        os._exit(0)
    os.close(control)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def adopt_orphans() -> None:
    """Have what loses its parent in this process tree become a child of this process, so that it is seen."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def left_something_running() -> bool:
    """Whether a process is left that a stage has started. Reaps those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def prepare(setup: Setup) -> Pipelines:
    """Put the process under its limits and load the pipelines. Raises PipelineError."""
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, setup.file_size)):
        _limit(kind, limit)
    pipelines = load_pipelines(setup.pipelines)
    from callsheet.media import limits, weights  # noqa: PLC0415  (a broken import must be told like a broken pipeline)

    weights.configure(Path(setup.models))
    limits.configure(
        limits.Limits(
            bytes=setup.max_upload,
            max_seconds=setup.max_seconds,
            pixels=setup.max_pixels,
            threads=setup.threads,
            addresses=frozenset(setup.addresses),
        )
    )
    configure_providers(setup.providers)
    # The data segment: heap, and private writable maps. Weights that are mapped from a file are not counted twice.
    _limit(resource.RLIMIT_DATA, setup.memory)
    return {**pipelines, fetching.name: fetching}


def _limit(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


def run(request: Request, pipelines: Pipelines, voice: Speaker) -> Done | Raised:
    """Run one stage, in its own folder, and say how it ended."""
    os.chdir(request.folder)
    tempfile.tempdir = request.folder  # what a library leaves behind goes with the folder
    try:
        pipeline, params = _pipeline(request, pipelines)
        seen = pipeline.params_of(request.stage, params)
        with contextlib.closing(ChildContext(request, seen, voice)) as context:
            output = pipeline.function(request.stage)(context)
        return Done(_with_items(checked(output), pipeline, request.stage))
    except MemoryError:
        return Raised("stage_out_of_memory", "The stage needs more memory than it may take.", details=_traceback())
    except BaseException as error:  # noqa: BLE001  (whatever a stage raises, the worker is told)
        return _raised(error)
    finally:
        os.chdir("/")
        tempfile.tempdir = None


def _pipeline(request: Request, pipelines: Pipelines) -> tuple[Pipeline, msgspec.Struct]:
    pipeline = pipelines.get(request.pipeline)
    base = request.stage.partition(":")[0]
    if pipeline is None or base not in {spec.name for spec in pipeline.specs}:
        raise StageError("unknown_stage", f"This worker has no stage {request.pipeline}/{base}.")
    try:
        return pipeline, msgspec.convert(request.params, pipeline.params)
    except msgspec.ValidationError as error:
        raise StageError("bad_params", str(error)) from None


def checked(output: Any) -> StageOutput:
    """The output, if it is one and within bounds. Raises StageError: bad_stage_output."""
    if not isinstance(output, StageOutput):
        raise _bad(f"it gave back a {type(output).__name__}, not a StageOutput")
    try:
        plain = msgspec.convert(msgspec.to_builtins(output), StageOutput)
        sizes = {name: len(msgspec.json.encode(getattr(plain, name))) for name in ("data", "result", "items", "input")}
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad(f"its output is not plain data: {error}") from None
    for name, size in sizes.items():
        if size > MAX_VALUES:
            raise _bad(f"its {name} takes {size} bytes; {MAX_VALUES} at most")
    return plain


def _with_items(output: StageOutput, pipeline: Pipeline, stage: str) -> StageOutput:
    """The output, if it has items where another stage runs once for each. To forget them is not to have none."""
    each = next((spec.name for spec in pipeline.specs if spec.each == stage), None)
    if each is not None and output.items is None:
        raise _bad(f"it gave back no items, and {each!r} runs once for each; where there are none, say items=()")
    return output


def _bad(what: str) -> StageError:
    return StageError("bad_stage_output", f"The stage is wrong: {what}.")


def _raised(error: BaseException) -> Raised:
    """A MediaError or StageError says it all; anything else is a bug of the stage: the log gets the traceback, and the
    client its text without paths. A full disk is nobody's bug, whoever ran into it first and made what of it."""
    if _disk_is_full(error):
        error = no_room()
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    if isinstance(code, str) and isinstance(message, str) and isinstance(error, Exception):
        return Raised(code, message, bool(getattr(error, "retryable", False)))
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Raised("stage_error", without_paths(text), details=_traceback())


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "errno", None) in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def without_paths(text: str) -> str:
    """The text with every absolute path in it cut down to its last part."""
    return PATH.sub("", text)


def _traceback() -> str:
    return traceback.format_exc()[-8000:]


if __name__ == "__main__":
    main(sys.argv[1:])
