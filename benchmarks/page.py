"""docs/performance.md: the measured part is written here, between two marks; the rest is by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.figures import Figure, shown
from benchmarks.results import BENCHES, Result, saved
from benchmarks.stand import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_page(folder: Path, page: Path = PAGE) -> None:
    """Put the saved results into the page."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{measured(saved(folder))}\n{END}{after}", "utf-8")


def measured(results: list[Result]) -> str:
    """The measured part."""
    if not results:
        return "Nothing is measured yet.\n"
    return "\n".join(["## Targets", "", *_targets(results), "", *_everything(results)])


def _targets(results: list[Result]) -> Iterator[str]:
    yield "| figure | target | measured | met |"
    yield "|---|---:|---:|---|"
    for figure in (figure for result in results for figure in result.figures if figure.met is not None):
        target = f"{'≥' if figure.bound == 'at least' else '≤'} {_with_unit(shown(figure.target or 0), figure.unit)}"
        verdict = "yes" if figure.met else "**no**"
        yield f"| {figure.name} | {target} | {_with_unit(shown(figure.median), figure.unit)} | {verdict} |"


def _everything(results: list[Result]) -> Iterator[str]:
    for result in results:
        machine = result.machine
        yield f"## {BENCHES[result.name]}"
        yield ""
        yield (
            f"{machine.at}. {machine.cpus} CPUs, {machine.memory_gib:g} GiB, {machine.system}, "
            f"Python {machine.python}, Redis {machine.redis}; a 4 KiB write with fsync takes {machine.fsync_ms:g} ms. "
            f"Load average {machine.load_before:g} before and {result.load_after:g} after."
        )
        yield ""
        yield from _table(result.figures)
        yield ""


def _table(figures: Iterable[Figure]) -> Iterator[str]:
    yield "| figure | median | min … max | remarks |"
    yield "|---|---:|---:|---|"
    for figure in figures:
        if figure.values:
            spread = f"{shown(min(figure.values))} … {shown(max(figure.values))}" if len(figure.values) > 1 else ""
            yield f"| {figure.name} | {_with_unit(shown(figure.median), figure.unit)} | {spread} | {figure.note} |"
        else:
            yield f"| {figure.name} | | | {figure.note} |"


def _with_unit(value: str, unit: str) -> str:
    return f"{value} {unit}".strip().replace(" /s", "/s")
