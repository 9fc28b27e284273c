"""Where the time of a stage goes, as the journal has it: one job at a time, so that nothing waits for a slot."""

from __future__ import annotations

import asyncio
from datetime import datetime

from benchmarks.contest import SLOTS
from benchmarks.figures import Figure, percentile
from benchmarks.ours import Tally, submit
from benchmarks.recipes import NOTHING
from benchmarks.stand import Stand, until
from callsheet.actors.blocking import BlockingJobs
from callsheet.jobs.events import Event, decode_event

PHASES = {  # what happens between two events of a stage
    "dispatched → started: broker, pick-up, claim": ("StageDispatched", "StageStarted"),
    "started → succeeded: child, reports, publish, success": ("StageStarted", "StageSucceeded"),
}


def phases(stand: Stand) -> list[Figure]:
    """The median of each phase, and of a whole job."""
    found: dict[str, list[float]] = {name: [] for name in (*PHASES, "a whole job of three stages, alone")}
    jobs = 2 if stand.quick else 40
    stand.flush().close()
    pipelines = "benchmarks.recipes:NOTHING"
    worker = ("worker", "--queue", "cpu", "--concurrency", str(SLOTS))
    with stand.role("host", pipelines=pipelines), stand.role(*worker, pipelines=pipelines):
        client, reader = stand.journal.client(), BlockingJobs(stand.journal.url)
        tally = Tally(client)
        for number in range(1, jobs + 1):
            (job,) = tally.expect(1)
            asyncio.run(submit(stand, [job]))
            until(lambda done=number: tally.done() == done, "the job is done")  # type: ignore[misc]
            if number > 1:  # the first one warms up
                _note([decode_event(entry.raw) for entry in reader.events(job)], found)
        reader.close()
        client.close()
    return [
        Figure(name, "ms", (percentile(values, 0.5),), note=f"p50 of {len(values)}") for name, values in found.items()
    ]


def _note(events: list[Event], found: dict[str, list[float]]) -> None:
    at = [datetime.fromisoformat(event.at) for event in events]
    whole = found["a whole job of three stages, alone"]
    whole.append(1000 * (at[-1] - at[0]).total_seconds())
    for name, (first, second) in PHASES.items():
        for stage in NOTHING.specs:
            times = [
                t
                for event, t in zip(events, at, strict=True)
                if event.stage == stage.name and event.type in (first, second)
            ]
            found[name].append(1000 * (times[-1] - times[0]).total_seconds())
