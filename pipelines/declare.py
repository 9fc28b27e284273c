"""How a pipeline is declared: its params, its stages, and what a stage function is given and gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack, overload

import msgspec

from callsheet.jobs.graph import GraphError, Queue, RetryPolicy, StageSpec, check_graph
from callsheet.pipelines.params import check_params

PIPELINE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z")


class StageError(Exception):
    """A stage cannot do what it is asked. `code` is permanent, `message` is for the client and never holds a path.

    `retryable`: trying again, with nothing changed, can help. (What `media` raises says the same of itself.)
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class InputFile(msgspec.Struct, frozen=True):
    """The upload: where it lies for this run, and what the client said of it (never trusted as a path)."""

    path: Path
    filename: str
    media_type: str
    bytes: int


class OutputFile(msgspec.Struct, frozen=True):
    """A file in the stage's folder that outlives it. An `artifact` is shown to the client under its name."""

    name: str
    media_type: str
    artifact: bool = False


class StageOutput(msgspec.Struct, frozen=True):
    """What a stage gives back.

    `data`: small JSON values for later stages (256 KiB at most). `files`: what to publish. `result`: merged into the
    result that the client reads. `items`: what a stage that declares `each` on this one fans out over.
    `input`: facts found about the input that the job shows (`duration` in seconds, `media_type`).
    """

    data: dict[str, Any] = {}
    files: tuple[OutputFile, ...] = ()
    result: dict[str, Any] = {}
    items: tuple[Any, ...] | None = None
    input: dict[str, Any] = {}


class StageContext(Protocol):
    """What a stage function may use. `folder` is private to this run and gone after it, but for published files."""

    @property
    def params(self) -> Any:
        """The params of the job, as the pipeline's own Struct."""
        ...

    @property
    def input(self) -> InputFile:
        """The upload."""
        ...

    @property
    def folder(self) -> Path:
        """Where this run works: the current directory, too."""
        ...

    @property
    def ledger(self) -> Path:
        """A folder of this job for what must outlive a try: records of paid steps. May not be there yet."""
        ...

    @property
    def item(self) -> Any:
        """What this instance of a fan-out is for; else None."""
        ...

    def file(self, stage: str, name: str) -> Path:
        """A file that an earlier stage published."""
        ...

    def data(self, stage: str) -> dict[str, Any]:
        """The `data` that an earlier stage gave back."""
        ...

    def instances(self, stage: str) -> tuple[str, ...]:
        """The names, in order, under which a stage succeeded: `clip:0`, `clip:2` … of a fan-out; else its own."""
        ...

    def progress(self, fraction: float, message: str = "") -> None:
        """How far this stage is, 0..1. Cheap: call it as often as you like, it is thinned to two a second."""
        ...

    def log(self, line: str) -> None:
        """One line for the job's log (500 characters at most, 1,000 lines a stage)."""
        ...

    def partial(self, data: dict[str, Any]) -> None:
        """A piece of the result that watchers may see before the stage ends (an event `PartialResult`).

        60 KiB of JSON at most. Pieces in quick succession become one: their lists under the same key are joined, of
        other values the latest counts.
        """
        ...


StageFunction = Callable[[StageContext], StageOutput]


class Stage(msgspec.Struct, frozen=True):
    """A stage: its place in the graph, and the function that does it."""

    spec: StageSpec
    run: StageFunction


class StageOptions(TypedDict, total=False):
    """What may be said of a stage; see `stage`."""

    name: str | None
    needs: str | Stage | tuple[str | Stage, ...]
    queue: Queue
    deadline: float
    retry: RetryPolicy | None
    each: str | Stage | None
    may_fail: bool
    weight: float
    version: str
    uses: tuple[str, ...] | None


@overload
def stage(run: StageFunction, **options: Unpack[StageOptions]) -> Stage: ...


@overload
def stage(run: None = None, **options: Unpack[StageOptions]) -> Callable[[StageFunction], Stage]: ...


def stage(
    run: StageFunction | None = None,
    *,
    name: str | None = None,
    needs: str | Stage | tuple[str | Stage, ...] = (),
    queue: Queue = "cpu",
    deadline: float = 3600.0,
    retry: RetryPolicy | None = None,
    each: str | Stage | None = None,
    may_fail: bool = False,
    weight: float = 1.0,
    version: str = "",
    uses: tuple[str, ...] | None = None,
) -> Stage | Callable[[StageFunction], Stage]:
    """Declare a stage: `stage(function, …)`, or `@stage` and `@stage(…)` above it.

    `name`: the function's unless given. `needs`: the stages whose files and data it reads; it begins when they have
    succeeded. `each`: one of those; this stage then runs once for each of its `items`, and whoever needs this one waits
    for all. `queue`: `cpu` or `io` or `gpu`, whose workers run it. `deadline`: seconds it may take. `retry`: how often
    it is tried. `may_fail`: the job goes on without it. `weight`: its share of the job's progress.

    With a `version`, what the stage gives back is used again where it would be made from the same: the bytes of the
    input, the params named in `uses` (default: all; it sees no others), its item, and what the stages before it gave.
    Change the version when the function would give something else. It must not depend on the input's name or the time.
    """

    def declared(run: StageFunction) -> Stage:
        spec = StageSpec(
            name=name or run.__name__,
            needs=tuple(map(_name_of, (needs,) if isinstance(needs, str | Stage) else needs)),
            queue=queue,
            deadline=deadline,
            retry=retry or RetryPolicy(),
            each=_name_of(each) if each is not None else None,
            may_fail=may_fail,
            weight=weight,
            reuse=f"{run.__module__}.{run.__qualname__}@{version}" if version else "",
            uses=uses,
        )
        return Stage(spec, run)

    return declared if run is None else declared(run)


def _name_of(stage: str | Stage) -> str:
    return stage.spec.name if isinstance(stage, Stage) else stage


class Pipeline(msgspec.Struct, frozen=True):
    """A pipeline: a name, a msgspec Struct of params (its JSON Schema is public), and stages in order.

    `placed` tells of a job's params which stages go to another queue than their own (stage -> queue). `refuses` tells
    of the first bytes of an input (1 MiB, or all) why it is plainly none for this pipeline: who uploads it is told at
    once, and no job is made.
    """

    name: str
    params: type[msgspec.Struct]
    stages: tuple[Stage, ...]
    description: str = ""
    placed: Callable[[Any], Mapping[str, Queue]] | None = None
    refuses: Callable[[bytes], str | None] | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        check_graph(self.specs)
        known = check_params(self.name, self.params)
        for spec in self.specs:
            if unknown := sorted(set(spec.uses or ()) - known):
                raise GraphError(f"stage {spec.name!r} uses {unknown[0]!r}, which is no param of {self.name!r}")

    def _check_kinds(self) -> None:
        if not PIPELINE_NAME.match(str(self.name)):
            raise GraphError(f"pipeline name {self.name!r} is not of the form {PIPELINE_NAME.pattern}")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise GraphError(f"{stage!r} of {self.name!r} is no stage: write @stage above it, or description=…")
            if not isinstance(stage.spec.retry, RetryPolicy):
                raise GraphError(f"the retry of stage {stage.spec.name!r} is {stage.spec.retry!r}, no RetryPolicy")

    @property
    def specs(self) -> tuple[StageSpec, ...]:
        """The graph."""
        return tuple(s.spec for s in self.stages)

    def graph(self, params: dict[str, Any]) -> tuple[StageSpec, ...]:
        """The graph of a job with these params, which it keeps. Raises msgspec.ValidationError."""
        if self.placed is None:
            return self.specs
        queues = self.placed(msgspec.convert(params, self.params))
        return tuple(msgspec.structs.replace(spec, queue=queues.get(spec.name, spec.queue)) for spec in self.specs)

    def function(self, stage: str) -> StageFunction:
        """The function of a stage, by the name in the graph (`clip` for the instance `clip:3`)."""
        base = stage.partition(":")[0]
        return next(s.run for s in self.stages if s.spec.name == base)

    def params_of(self, stage: str, params: Any) -> Any:
        """The params as a stage sees them: those it says it uses, or all."""
        base = stage.partition(":")[0]
        uses = next((s.spec.uses for s in self.stages if s.spec.name == base), None)
        return params if uses is None else SomeParams(params, uses)


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to choose."""


def pipeline(name: str, *stages: Stage, params: type[msgspec.Struct] = NoParams, description: str = "") -> Pipeline:
    """Declare a pipeline of these stages, each after those that it needs. Raises GraphError (a ValueError)."""
    return Pipeline(name, params, stages, description)


class SomeParams:
    """The params that a stage says it uses. Any other is an AttributeError: what depends on it would be used again
    for another value of it."""

    def __init__(self, params: Any, uses: tuple[str, ...]) -> None:
        vars(self).update({name: getattr(params, name) for name in uses})
