"""Measure: `python -m benchmarks`, or only some: `python -m benchmarks mailbox ask`. `--quick`: all, tiny."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

from benchmarks.figures import Figure, shown
from benchmarks.machine import this_machine
from benchmarks.page import write_page
from benchmarks.results import BENCHES, Result, save
from benchmarks.stand import ROOT, Stand


def main() -> int:
    """Measure what was asked for; 1 if something could not be."""
    wanted = _arguments()
    unknown = set(wanted.names) - set(BENCHES)
    if unknown:
        print(f"there is no {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 2
    failed = 0
    for name in wanted.names or BENCHES:
        try:
            _measure(name, wanted.folder, quick=wanted.quick, repeats=wanted.repeats)
        except Exception:  # noqa: BLE001  (the others are measured all the same)
            traceback.print_exc()
            failed += 1
    if not wanted.quick and wanted.repeats is None:
        write_page(wanted.folder)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(BENCHES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="tiny loads, once: to see that everything still runs")
    parser.add_argument("--repeats", type=int, help="repetitions, in place of those the page is made of")
    parser.add_argument(
        "--folder",
        type=lambda f: Path(f).absolute(),
        default=ROOT / "var" / "bench",
        help="where Redis and the results go",
    )
    return parser.parse_args()


def _measure(name: str, folder: Path, *, quick: bool, repeats: int | None) -> None:
    print(f"\n{BENCHES[name]}", flush=True)
    shutil.rmtree(folder / "stand", ignore_errors=True)
    with Stand(folder / "stand", quick=quick) as stand:
        stand.repeats = repeats or stand.repeats
        machine, begun = this_machine(stand.folder), time.monotonic()
        figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").run(stand)
    for figure in figures:
        print(_row(figure, judged=not quick), flush=True)
    seconds, load = round(time.monotonic() - begun), round(os.getloadavg()[0], 2)
    print(f"  took {seconds} s; load average {machine.load_before} before, {load} after, on {machine.cpus} CPUs")
    save(folder, Result(name, machine, load, seconds, figures), quick=quick)


def _row(figure: Figure, *, judged: bool) -> str:
    if not figure.values:
        return f"  {figure.name:<58} {figure.note}"
    measured = f"{shown(figure.median)} {figure.unit}".strip()
    spread = f"{shown(min(figure.values))} … {shown(max(figure.values))}" if len(figure.values) > 1 else ""
    verdict = {True: "met", False: "NOT MET", None: ""}[figure.met] if judged else ""
    return f"  {figure.name:<58} {measured:>18}  {spread:<20} {verdict}"


if __name__ == "__main__":
    sys.exit(main())
