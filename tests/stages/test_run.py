"""A stage from end to end: real host, real worker, real child process."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import TypeVar

import pytest

from callsheet.actors.broker import dispatch, make_broker
from callsheet.jobs.events import Event, PartialResult, StageLogged, StageProgressed, StageStarted
from tests.stages.conftest import Service, alive
from tests.waiting import eventually

T = TypeVar("T")


def seconds(event: Event) -> float:
    return datetime.fromisoformat(event.at).timestamp()


def bodies(service: Service, job: str, kind: type[T]) -> list[T]:
    return [event.data for event in service.events(job) if isinstance(event.data, kind)]


def test_a_stage_runs_and_what_it_gives_back_is_in_the_job(shared: Service) -> None:
    job = shared.run("write")
    state = job.stages["act"]
    assert (job.status, job.error) == ("completed", None)
    assert job.result["input"] == "some sound"
    assert (state.data, job.input.duration) == ({"for": "later"}, 2.5)
    assert [(ref.name, ref.bytes, ref.artifact) for ref in job.artifacts] == [("words.txt", 5, True)]
    assert shared.store.path(job.id, job.artifacts[0].folder, "words.txt").read_text() == "hello"


def test_nothing_is_left_of_a_run_but_what_it_published(shared: Service) -> None:
    job = shared.run("write")
    assert job.result["temporary"].startswith(shared.marked("folder"))
    assert shared.in_work() == []
    assert shared.published(job.id) == ["2-act"]


def test_stages_hand_on_files_data_and_items_and_a_join_sees_who_succeeded(shared: Service) -> None:
    job = shared.run(pipeline="graph", count=3)
    assert job.status == "completed", job.error
    assert job.result["names"] == ["clip:0", "clip:2"]
    assert job.result["texts"] == {"clip:0": "0 first", "clip:2": "2 first"}
    assert job.result["items"] == [0, 2]


def test_one_child_serves_stage_after_stage_and_stays_warm(shared: Service) -> None:
    results = [shared.run("warm").result for _ in range(3)]
    assert len({result["pid"] for result in results}) == 1
    began = results[0]["served"]
    assert [result["served"] for result in results] == [began, began + 1, began + 2]


def test_progress_reaches_the_journal_twice_a_second_at_most_and_the_last_of_it_always(shared: Service) -> None:
    job = shared.run("chatter")
    events = bodies(shared, job.id, StageProgressed)
    assert 2 <= len(events) <= 2 * job.result["seconds"] + 3, "counted where they are sent: they may pile up on the way"
    assert (events[-1].progress, events[-1].message) == (0.95, "the last word")


def test_the_last_progress_before_a_long_silence_is_told(shared: Service) -> None:
    job = shared.submit("last_word")
    eventually(lambda: [b.progress for b in bodies(shared, job, StageProgressed)][-1:] == [0.2])
    shared.mark("go")
    assert shared.ended(job).status == "completed"


def test_log_lines_come_in_order_in_batches_cut_and_bounded(shared: Service) -> None:
    job = shared.run("talk", count=5000)
    batches = [body.lines for body in bodies(shared, job.id, StageLogged)]
    lines = [line for batch in batches for line in batch]
    assert lines[:3] == ["two", "lines", "x" * 500]
    assert lines[3:-1] == [f"line {n}" for n in range(996)]
    assert (len(lines), lines[-1]) == (1000, "The rest of this stage's log is dropped.")
    assert len(batches) <= 100, "how full they are depends on how fast the stage is"


def test_partial_results_are_batched_in_order_and_one_that_is_too_large_is_dropped_aloud(shared: Service) -> None:
    job = shared.run("pieces", count=200)
    pieces = [body.partial for body in bodies(shared, job.id, PartialResult)]
    lines = [line for piece in pieces for line in piece["lines"]]
    assert [line.split()[0] for line in lines] == [str(n) for n in range(200)]
    assert pieces[-1]["upto"] == 199
    assert len(pieces) <= 50
    log = [line for body in bodies(shared, job.id, StageLogged) for line in body.lines]
    assert len(log) == 1
    assert "dropped" in log[0]


def test_a_second_delivery_of_a_dispatch_runs_nothing(service: Service) -> None:
    for _ in range(2):
        service.worker()
    job = service.submit("gated_write")
    service.marked("begun")
    (service.marks / "begun").unlink()
    broker = make_broker(service.settings.broker)
    for _ in range(4):
        dispatch(broker, job, "act", 2, "cpu")
    queue = "dramatiq:cpu.msgs"
    eventually(lambda: broker.client.hlen(queue) == 1)  # the other worker is done with the four; the first one's runs
    service.mark("go")
    assert service.ended(job).status == "completed"
    dispatch(broker, job, "act", 2, "cpu")
    eventually(lambda: broker.client.hlen(queue) == 0)
    assert len(bodies(service, job, StageStarted)) == 1
    assert service.published(job) == ["2-act"]
    assert not (service.marks / "begun").exists()


def test_no_more_stages_run_at_once_than_configured(service: Service) -> None:
    service.worker(cpu_concurrency=2)
    jobs = [service.submit("gated_write") for _ in range(5)]
    eventually(lambda: sum(len(bodies(service, job, StageStarted)) for job in jobs) == 2)
    service.mark("go")
    steps = []
    for job in jobs:
        assert service.ended(job).status == "completed"
        (began,), (ended,) = service.events(job, "StageStarted"), service.events(job, "StageSucceeded")
        steps += [(seconds(began), 1), (seconds(ended), -1)]
    assert max(itertools.accumulate(step for _, step in sorted(steps))) == 2


def test_a_child_gets_no_secret_and_is_under_limits(shared: Service) -> None:
    result = shared.run("environment").result
    assert not [name for name in result["environment"] if name.startswith("CALLSHEET_") and "TEST" not in name]
    assert shared.settings.journal not in str(result["environment"])
    assert result["soft"] == {"RLIMIT_CORE": 0, "RLIMIT_DATA": 512 << 20}
    assert int(result["environment"]["OMP_NUM_THREADS"]) >= 1


def test_what_a_thread_of_an_earlier_stage_says_is_not_taken_for_the_next_ones(shared: Service) -> None:
    before = shared.run("talks_later")
    after = shared.submit("waits")
    shared.marked("waiting")
    shared.mark("go")
    assert shared.ended(after).status == "completed"
    assert bodies(shared, after, StageLogged) == bodies(shared, before.id, StageLogged) == []


def test_a_process_that_a_stage_leaves_behind_ends_with_it(shared: Service) -> None:
    first = shared.run("warm").result["pid"]
    job = shared.run("leaves_a_process")
    assert job.status == "completed"
    assert shared.run("warm").result["pid"] != first
    assert alive(first) == []
    assert not [p for p in shared.workers[0].family() if p.name() == "sleep"]


@pytest.mark.parametrize("trick", ["missing", "upward", "link", "vast", "strange", "typeless"])
def test_an_output_that_cannot_be_is_a_failure_with_its_own_code(shared: Service, trick: str) -> None:
    job = shared.run(trick)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("bad_stage_output", False)
    assert shared.published(job.id) == shared.in_work() == []
