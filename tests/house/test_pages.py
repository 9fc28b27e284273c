"""The pages name what the code can say."""

from __future__ import annotations

import re

from tests.house.imports import ROOT

ROOMS = ("actors/stages", "jobs", "media", "pipelines")
FAILURE = re.compile(r'(?:MediaError|StageError|StageFailed|Raised|_failed)\(\s*"([a-z_]+)"')


def test_every_code_by_which_a_job_may_fail_is_on_a_page() -> None:
    sources = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    codes = {code for source in sources for code in FAILURE.findall(source)}
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert len(codes) > 30
    assert sorted(code for code in codes if f"`{code}`" not in pages) == []
