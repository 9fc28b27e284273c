"""The benchmarks run: with a tiny load each, so that they do not rot. What they measure then says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure, percentile, shown
from benchmarks.machine import Machine
from benchmarks.page import BEGIN, END, PAGE, write_page
from benchmarks.results import BENCHES, Result, save
from tests.house.imports import ROOT

MACHINE = Machine(2, 8.0, "Linux", "3.11.7", "7.0.15", 1.0, 0.1, "2025-01-01 00:00 UTC")


@pytest.mark.timeout(900)
def test_every_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--folder", str(tmp_path)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=880)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert sorted(BENCHES) == sorted(file.stem for file in (tmp_path / "quick").iterdir())


def test_the_page_says_what_was_measured_and_keeps_what_was_written(tmp_path: Path) -> None:
    figures = [
        Figure("messages", "/s", (4000.0, 5200.0, 6100.0), 5000),
        Figure("answer", "ms", (61.0,), 50, "at most"),
        Figure("peer", "jobs/s", (), note="not measured: it is not here"),
    ]
    save(tmp_path, Result("mailbox", MACHINE, 0.2, 3, figures), quick=False)
    page = tmp_path / "page.md"
    page.write_text(f"by hand\n{BEGIN}\nold\n{END}\nwhy it is so\n")
    write_page(tmp_path, page)
    text = page.read_text()
    assert text.startswith("by hand\n")
    assert text.endswith("\nwhy it is so\n")
    assert "old" not in text
    assert "| messages | ≥ 5,000/s | 5,200/s | yes |" in text
    assert "| messages | 5,200/s | 4,000 … 6,100 |  |" in text
    assert "| answer | ≤ 50.0 ms | 61.0 ms | **no** |" in text
    assert "| peer | | | not measured: it is not here |" in text


def test_the_page_of_this_repository_has_its_marks() -> None:
    text = PAGE.read_text("utf-8")
    assert text.index(BEGIN) < text.index(END)


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile(range(1, 101), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (0.012345, "0.0123"), (1.2345, "1.23"), (54.32, "54.3"), (12345.6, "12,346")]
)
def test_a_value_is_shown_with_three_digits_that_count(value: float, expected: str) -> None:
    assert shown(value) == expected
