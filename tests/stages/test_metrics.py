"""A worker counts the stages that it runs."""

from __future__ import annotations

from callsheet.actors.telemetry.board import Board
from tests.stages.conftest import Service
from tests.waiting import eventually


def figures(service: Service, name: str) -> dict[tuple[str, ...], float]:
    """What all workers show under a name, by the labels' values in the order of their names."""
    snapshots = [s for s in Board(service.settings.broker, "test").others() if s.role == "worker"]
    samples = [sample for s in snapshots for family in s.families for sample in family.samples if sample[0] == name]
    return {tuple(labels[key] for key in sorted(labels) if key != "le"): value for _, labels, value in samples}


def test_a_stage_is_seen_while_it_runs_and_counted_when_it_is_over(shared: Service) -> None:
    job = shared.submit("waits")
    eventually(lambda: figures(shared, "callsheet_stages_running").get(("cpu",)) == 1)
    eventually(lambda: figures(shared, "callsheet_stage_slots") == {("cpu",): 1, ("io",): 2})
    shared.mark("late")
    shared.ended(job)
    eventually(lambda: figures(shared, "callsheet_stages_running").get(("cpu",)) == 0)
    eventually(lambda: figures(shared, "callsheet_stage_seconds_count") == {("succeeded", "one", "act"): 1})
