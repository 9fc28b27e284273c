"""How a stage can fail, and what the job says then."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from callsheet.actors.stages.child import MAX_STAGES, Child, Children
from callsheet.actors.stages.worker import _child_spec
from callsheet.config.settings import Settings
from tests.stages.conftest import Service, alive
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("trick", "code", "message", "retryable"),
    [
        ("segfault", "stage_crashed", "The stage's process was killed by SIGSEGV.", True),
        ("leave", "stage_crashed", "The stage's process exited with code 3.", True),
        ("greedy", "stage_out_of_memory", "The stage needs more memory than it may take.", False),
        ("fails", "stage_error", "OSError: cannot read words.txt, nor 'passwd'", False),
        ("says_no", "no_faces", "Nobody is in the picture.", False),
        ("bad_media", "no_audio", "There is no sound in it.", False),
    ],
)
def test_a_failure_is_told_by_name(shared: Service, trick: str, code: str, message: str, retryable: bool) -> None:
    (worker,) = shared.workers
    job = shared.run(trick)
    error = job.error
    assert error is not None
    assert (job.status, error.code, error.message, error.retryable) == ("failed", code, message, retryable)
    assert shared.in_work() == []
    if trick == "fails":
        assert "somebody/private" in worker.text


def test_a_crash_costs_one_try_and_not_the_worker(shared: Service) -> None:
    (worker,) = shared.workers
    job = shared.run("segfault", pipeline="twice")
    assert [e.type for e in shared.events(job.id)].count("StageFailed") == 2
    assert shared.run("nothing").status == "completed"
    assert worker.process.poll() is None
    assert "some last words" in worker.text


def test_after_a_crash_or_an_exhausted_memory_the_next_stage_has_a_fresh_child(shared: Service) -> None:
    pids = []
    for trick in ("segfault", "greedy"):
        pids.append(shared.run("warm").result["pid"])
        shared.run(trick)
    pids.append(shared.run("warm").result["pid"])
    assert len(set(pids)) == 3
    assert alive(*pids) == pids[2:]


@pytest.mark.parametrize(
    ("stages", "retire_at", "kept"), [(0, 1 << 40, True), (MAX_STAGES, 1 << 40, False), (0, 1, False)]
)
def test_a_child_that_has_run_for_long_or_has_grown_is_replaced(
    settings: Settings, *, stages: int, retire_at: int, kept: bool
) -> None:
    children = Children(replace(_child_spec(settings, "cpu", 1), retire_at=retire_at))
    assert children.warm_up() is None
    wake, end = os.pipe()
    first = children.take(wake)
    assert isinstance(first, Child)
    first.stages = stages
    children.give_back(first)
    assert bool(alive(first.pid)) is kept
    children.close()
    assert not alive(first.pid)
    os.close(wake)
    os.close(end)


def test_a_child_that_dies_between_two_stages_costs_no_stage(shared: Service) -> None:
    idle = shared.run("warm").result["pid"]
    (process,) = [p for p in shared.workers[0].family() if p.pid == idle]
    process.kill()
    eventually(lambda: not alive(idle))
    job = shared.run("warm")
    assert job.status == "completed"
    assert [e.type for e in shared.events(job.id)].count("StageDispatched") == 1


def test_a_worker_without_its_pipelines_says_so_in_one_line_and_ends(service: Service) -> None:
    worker = service.start_worker(pipelines="tests.stages.tricks:no_such_thing")
    assert worker.ends(60.0) == 2
    assert "callsheet: CALLSHEET_PIPELINES: tests.stages.tricks:no_such_thing: " in worker.text
    assert "Traceback" not in worker.text


def test_a_stage_that_this_worker_does_not_know_fails_by_name(service: Service) -> None:
    service.worker(pipelines="tests.stages.tricks:graph")
    job = service.run("nothing")
    assert job.error is not None
    assert job.error.code == "unknown_stage"


def test_params_that_the_pipeline_refuses_fail_by_name(shared: Service) -> None:
    job = shared.run("nothing", count="many")
    assert job.error is not None
    assert job.error.code == "bad_params"
