"""Workers of five characters, and settle(), which lets one of them and the timers bring a job to its end (I15)."""

from __future__ import annotations

from collections.abc import Callable

from callsheet.jobs.job import StageState
from tests.jobs.kit import Play

ENOUGH = 500  # steps to the end of any job here, whatever has happened to it before
ENDED = ("completed", "failed", "cancelled", "expired")

Worker = Callable[[Play, StageState], None]


def succeeds(play: Play, state: StageState) -> None:
    play.succeed(state.name, items=("x", "y") if state.name == "plan" else None)


def fails(play: Play, state: StageState) -> None:
    play.fail(state.name, retryable=False)


def stumbles(play: Play, state: StageState) -> None:
    play.fail(state.name, retryable=True)


def falls_silent(play: Play, state: StageState) -> None:
    play.fire(f"alive:{state.name}")


def takes_too_long(play: Play, state: StageState) -> None:
    play.fire(f"deadline:{state.name}")


WORKERS: tuple[Worker, ...] = (succeeds, fails, stumbles, falls_silent, takes_too_long)


def settle(play: Play, worker: Worker, steps: int = ENOUGH) -> bool:
    """Let the workers and the timers do their part, this often at most; whether the job has ended."""
    for _ in range(steps):
        if play.current is None or play.job.status in ENDED:
            return True
        running = [s for s in play.job.stages.values() if s.status == "running"]
        if play.late:
            play.deliver(play.late[0])
        elif play.job.status == "cancelling" and worker is falls_silent:
            play.fire("grace")
        elif running and f"alive:{running[0].name}" in play.timers:
            worker(play, running[0])
        elif play.dispatches:
            play.claim(next(iter(play.dispatches.values())).stage)
        else:
            play.fire(min(play.timers.values(), key=lambda timer: timer.due).timer)
    return play.current is None or play.job.status in ENDED
