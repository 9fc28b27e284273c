"""Stages and pipelines are declared by calls or by decorators, in settings or by installed packages."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

import callsheet
from callsheet import Pipeline, StageContext, StageOutput, pipeline, stage
from callsheet.actors import pipelines as offered
from callsheet.actors.pipelines import PipelineError, load_pipelines
from callsheet.jobs.graph import GraphError, StageSpec


class Params(msgspec.Struct, frozen=True):
    """Two params."""

    first: int = 1
    second: int = 2


class Unheard(msgspec.Struct):
    """No client could send it."""

    some: complex = 1j


class Unfit(msgspec.Struct):
    """Every job would have it."""

    some: Annotated[int, msgspec.Meta(ge=1)] = 0


def plain(_: StageContext) -> StageOutput:
    return StageOutput()


@stage
def bare(_: StageContext) -> StageOutput:
    return StageOutput()


@stage(needs=(bare,), each=bare, queue="io", may_fail=True, version="3", uses=("first",))
def decorated(_: StageContext) -> StageOutput:
    return StageOutput()


example = pipeline("example", bare, decorated, params=Params)


def test_a_decorator_declares_what_a_call_declares() -> None:
    assert bare.spec == stage(plain, name="bare").spec == StageSpec("bare")
    reuse = f"{__name__}.decorated@3"
    assert decorated.spec == StageSpec(
        "decorated", ("bare",), queue="io", each="bare", may_fail=True, reuse=reuse, uses=("first",)
    )
    assert example == Pipeline("example", Params, (bare, decorated))
    assert callsheet.pipeline("nothing", bare).params is not Params


def test_a_stage_that_uses_what_is_no_param_is_refused() -> None:
    with pytest.raises(GraphError, match="uses 'third'"):
        pipeline("wrong", stage(plain, uses=("third",)), params=Params)


@pytest.mark.parametrize(
    ("declare", "why"),
    [
        (lambda: pipeline("My pipeline", bare), "pipeline name 'My pipeline' is not of the form"),
        (lambda: pipeline("", bare), "pipeline name '' is not of the form"),
        (lambda: pipeline("wrong", plain), "is no stage: write @stage above it"),  # type: ignore[arg-type]
        (lambda: pipeline("wrong", "About it."), "is no stage: write @stage above it, or description="),  # type: ignore[arg-type]
        (lambda: pipeline(bare), "is not of the form"),  # type: ignore[arg-type]
        (lambda: pipeline("wrong", stage(plain, retry=3)), "is 3, no RetryPolicy"),  # type: ignore[call-overload]
        (lambda: pipeline("wrong", bare, params=dict), "no subclass of msgspec.Struct"),  # type: ignore[arg-type]
        (lambda: pipeline("wrong", bare, params=Params()), "no subclass of msgspec.Struct"),  # type: ignore[arg-type]
        (lambda: pipeline("wrong", bare, params=Unheard), "no JSON Schema: type <class 'complex'> is not supported"),
        (lambda: pipeline("wrong", bare, params=Unfit), "the default of the param 'some' of 'wrong' does not fit: Exp"),
        (lambda: pipeline("wrong", stage(plain, queue="fast")), "there are: cpu, io, gpu"),  # type: ignore[call-overload]
    ],
)
def test_what_could_not_run_is_refused_where_it_is_declared_in_words(declare: Callable[[], object], why: str) -> None:
    with pytest.raises(GraphError, match=re.escape(why)):
        declare()


def test_a_stage_may_name_the_only_one_that_it_needs_without_a_tuple() -> None:
    assert stage(plain, needs=bare).spec == stage(plain, needs="bare").spec == stage(plain, needs=(bare,)).spec


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def x(:\n", "SyntaxError: .*broken.py, line 1"),
        ("from callsheet import pipeline\n\nx = pipeline('x')\n", r"GraphError: .*stages.* \(broken.py, line 3\)"),
        ("1 / 0", r"ZeroDivisionError: division by zero \(broken.py, line 1\)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_line_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(PipelineError, match=rf"^broken:x: {why}"):
        load_pipelines(["broken:x"])


def test_a_stage_sees_the_params_that_it_uses_and_no_other() -> None:
    seen = example.params_of("decorated:1", Params(5, 6))
    assert vars(seen) == {"first": 5}
    with pytest.raises(AttributeError):
        _ = seen.second
    assert example.params_of("bare", Params(5, 6)) == Params(5, 6)


def _installed(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [EntryPoint(f"e{n}", value, offered.GROUP) for n, value in enumerate(values)]
    monkeypatch.setattr(offered, "entry_points", lambda group: entries if group == offered.GROUP else [])


def test_what_an_installed_package_offers_comes_after_what_the_settings_list(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, f"{__name__}:example")
    found: dict[str, Any] = load_pipelines(["callsheet.pipelines.transcribe:pipeline"])
    assert list(found) == ["transcribe", "example"]


def test_an_installed_pipeline_of_a_taken_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, f"{__name__}:example")
    with pytest.raises(PipelineError, match="already"):
        load_pipelines([f"{__name__}:example"])
