"""The rules are functions: the same arguments give the same decision, and nothing else is looked at."""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import pytest

import callsheet.jobs.rules
from callsheet.jobs import messages as m
from callsheet.jobs.rules import decide
from callsheet.jobs.states import STATUSES
from tests.jobs.kit import START, in_status, sample

FILES = sorted(Path(callsheet.jobs.rules.__file__).parent.glob("*.py"))
# docs.py writes a page when it is run; the rules never import it.
ALLOWED = {"__future__", "collections", "datetime", "hashlib", "math", "re", "typing", "msgspec", "callsheet"}
CLOCKS = ("now", "utcnow", "today")


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "docs.py"], ids=lambda f: f.name)
def test_a_file_of_the_rules_imports_nothing_that_could_touch_the_world(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= ALLOWED
    assert {
        name for name in imported if name.startswith("callsheet") and not name.startswith("callsheet.jobs")
    } == set()
    assert "callsheet.jobs.docs" not in imported
    clocks = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in CLOCKS]
    assert [name for name in clocks if f"datetime.{name}" in file.read_text()] == []


@pytest.mark.parametrize("kind", m.MESSAGES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("status", STATUSES)
def test_the_same_arguments_give_the_same_decision_and_are_left_as_they_were(status: str, kind: type) -> None:
    play = in_status(status)
    job = play.job if play else None
    message = sample(kind, job.stages["a"].token if job else 1, 1)
    before = copy.deepcopy((job, message))
    first = decide(job, message, START, 0.25)
    assert decide(job, message, START, 0.25) == first
    assert (job, message) == before
