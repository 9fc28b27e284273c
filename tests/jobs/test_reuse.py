"""What a stage's outputs are made from is one digest; it says when they may serve again."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import Job
from callsheet.jobs.reuse import reuse_key, stages_before
from tests.jobs.kit import Play, output

GRAPH = (
    StageSpec("a"),
    StageSpec("b", ("a",)),
    StageSpec("side"),
    StageSpec("c", ("b",), reuse="module.c@1", uses=("language",)),
)


def ready(**params: Any) -> Play:
    """A job whose stage `c` is about to run."""
    play = Play(GRAPH, **params)
    play.succeed("a", data={"of": "a"})
    play.succeed("b", outputs=(output(play, "b", "b.txt"),))
    return play


def key(job: Job) -> str | None:
    return reuse_key(job, "c")


def test_the_same_made_from_the_same_has_the_same_key_whatever_else_the_jobs_are() -> None:
    first, second = ready(language="en", style="plain").job, ready(language="en", style="bold").job
    second = replace(second, id="j2", input=replace(second.input, filename="other.mp3", duration=3.0))
    assert key(first) == key(second) is not None


def test_a_stage_without_a_version_has_no_key() -> None:
    assert reuse_key(ready().job, "b") is None


def test_an_input_that_is_not_known_yet_has_no_key() -> None:
    job = ready().job
    assert key(replace(job, input=replace(job.input, sha256=""))) is None


def _spec(job: Job, **changes: Any) -> Job:
    return replace(job, graph=(*job.graph[:-1], replace(job.graph[-1], **changes)))


def _stage(job: Job, name: str, **changes: Any) -> Job:
    return replace(job, stages={**job.stages, name: replace(job.stages[name], **changes)})


CHANGES: dict[str, Any] = {
    "a param that is used": lambda job: replace(job, params={**job.params, "language": "de"}),
    "any param, where all are used": lambda job: _spec(job, uses=None),
    "the code": lambda job: _spec(job, reuse="module.d@1"),
    "its version": lambda job: _spec(job, reuse="module.c@2"),
    "the input": lambda job: replace(job, input=replace(job.input, sha256="cd" * 32)),
    "its type": lambda job: replace(job, input=replace(job.input, media_type="video/mp4")),
    "the item": lambda job: _stage(job, "c", item=1),
    "the data of a stage far before it": lambda job: _stage(job, "a", data={"of": "b"}),
    "a file of a stage before it": lambda job: _stage(
        job, "b", outputs=(replace(job.stages["b"].outputs[0], sha256="ef" * 32),)
    ),
    "its name": lambda job: _stage(job, "b", outputs=(replace(job.stages["b"].outputs[0], name="c.txt"),)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_it_is_made_from_changes_the_key(change: str) -> None:
    job = ready(language="en", style="plain").job
    assert key(CHANGES[change](job)) != key(job)


def test_what_it_is_not_made_from_does_not_change_the_key() -> None:
    play = ready(language="en")
    before = key(play.job)
    play.succeed("side", data={"x": 1})
    assert key(play.job) == before


def test_a_stage_is_given_what_it_needs_directly_or_not_and_nothing_else() -> None:
    play = ready()
    play.succeed("side")
    assert [s.name for s in stages_before(play.job, play.job.spec(play.stage("c")))] == ["a", "b"]
