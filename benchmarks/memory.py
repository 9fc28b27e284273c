"""What a job costs while it lives in a host, and what a finished one leaves in Redis."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import redis

from benchmarks.figures import Figure
from benchmarks.stand import Stand, until
from benchmarks.stories import THREE, Told, put_into_mailboxes, taking_turns, unread, whole_life

REPORTS = 2


def run(stand: Stand) -> list[Figure]:
    """Jobs of three stages with two reports each; the live ones run their first stage."""
    live, finished = (100, 50) if stand.quick else (5000, 1000)
    repeats = min(3, stand.repeats)
    host, redis_live = zip(*(_live(stand, live) for _ in range(repeats)), strict=True)
    over = tuple(_finished(stand, finished) for _ in range(repeats))
    events = 2 + 3 * (3 + REPORTS)  # submitted, completed; dispatched, started, progressed, succeeded
    return [
        Figure("host memory a live job", "KiB", host, note=f"resident, {live:,} running jobs kept in memory"),
        Figure("Redis memory a live job", "KiB", redis_live, note="with its journal so far"),
        Figure("Redis memory a finished job", "KiB", over, note=f"{finished:,} jobs of {events} events each"),
    ]


def _live(stand: Stand, count: int) -> tuple[float, float]:
    running = [(job, messages[:2]) for job, messages in (whole_life(THREE, REPORTS) for _ in range(count))]
    with stand.flush() as client, stand.role("host", idle_seconds=3600, worker_lost_after_seconds=3600) as host:
        process = psutil.Process(host.pid)
        _applied(client, [(job, m) for job, messages in running[: count // 10] for m in messages])
        resident, used = process.memory_info().rss, _used(client)
        rest = running[count // 10 :]
        _applied(client, list(taking_turns(rest)))
        grown = process.memory_info().rss - resident
        return grown / len(rest) / 1024, (_used(client) - used) / len(rest) / 1024


def _finished(stand: Stand, count: int) -> float:
    lives = [whole_life(THREE, REPORTS) for _ in range(count)]
    with stand.flush() as client, stand.role("host"):
        used = _used(client)
        _applied(client, list(taking_turns(lives)))
        return (_used(client) - used) / count / 1024


def _applied(client: redis.Redis, told: Sequence[Told]) -> None:
    put_into_mailboxes(client, told)
    until(lambda: unread(client) == 0, "every message is applied")


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])
