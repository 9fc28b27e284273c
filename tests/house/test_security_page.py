"""The page that says which test holds which attack: the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_attack_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text().partition("## Attacks and answers")[2]
    rows = [row for row in page.splitlines() if row.startswith("| ") and not row.startswith("| attack")]
    assert len(rows) > 25
    for row in rows:
        where = row.split(" | ")[-1]
        files = re.findall(r"`(\w+/\w+\.py)`", where)
        assert files or "the same" in where, row
        assert all((ROOT / "tests" / file).is_file() for file in files), row
