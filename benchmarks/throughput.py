"""Jobs a second: three stages that do nothing but report twice, in two slots, beside others on the same Redis."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from benchmarks.contest import Contestant, not_installed
from benchmarks.figures import Figure
from benchmarks.ours import Ours
from benchmarks.phases import phases
from benchmarks.stand import Stand

PEERS = {  # where it is -> the package it needs
    "arq_chain:ArqChain": "arq",
    "celery_chain:CeleryChain": "celery",
    "bullmq_flow:BullmqFlow": "json",
    "dramatiq_chain:DramatiqChain": "dramatiq",
}


def run(stand: Stand) -> list[Figure]:
    """Each in turn, again and again; another one begins each time."""
    jobs = 5 if stand.quick else 300
    present, missing = _contestants(stand)
    rates: dict[str, list[float]] = {c.name: [] for c in present}
    for turn in range(stand.repeats):
        start = turn % len(present)
        for contestant in (*present[start:], *present[:start]):
            stand.flush().close()
            rates[contestant.name].append(contestant.jobs_per_second(stand, jobs))
    figures = [Figure(c.name, "jobs/s", tuple(rates[c.name]), note=c.note) for c in present]
    return [*figures, *_ratios(rates), *missing, *phases(stand)]


def _contestants(stand: Stand) -> tuple[list[Contestant], list[Figure]]:
    ours = (False,) if stand.quick else (True, False)
    present: list[Contestant] = [Ours(one_server=one_server) for one_server in ours]
    missing = []
    for where, needs in PEERS.items():
        module, _, name = where.partition(":")
        why = not_installed(needs)
        peer = None if why else getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)()
        if peer and not (why := peer.missing(stand)):
            present.append(peer)
        else:
            missing.append(Figure(name, "jobs/s", (), note=f"not measured: {why}"))
    return present, missing


def _ratios(rates: dict[str, list[float]]) -> Iterable[Figure]:
    ours = {name: values for name, values in rates.items() if name.startswith("Callsheet")}
    arq = next((values for name, values in rates.items() if name.startswith("ARQ")), None)
    for name, values in ours.items() if arq else ():
        ratios = tuple(a / b for a, b in zip(values, arq or (), strict=True))
        yield Figure(f"{name}, of ARQ's", "", ratios, 1.0)
