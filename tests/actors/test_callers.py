"""Callers inside the house: the page about them and its example are run as they stand, against a real owner."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from callsheet.actors.keys import new_job_id
from tests.actors.kit import ONE, submission
from tests.actors.studio import Studio

ROOT = Path(__file__).parents[2]


def run(studio: Studio, *command: str) -> list[str]:
    environment = {**os.environ, "CALLSHEET_REDIS_URL": studio.settings.journal}
    done = subprocess.run(
        [sys.executable, "-P", *command], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def begun(studio: Studio) -> str:
    job = new_job_id()
    assert studio.jobs.ask(job, submission(job, ONE)).ok
    return job


def test_the_example_cancels_what_is_overdue_and_nothing_else(studio: Studio) -> None:
    studio.host()
    ended = begun(studio)
    studio.complete(ended, 2)
    late = begun(studio)
    overdue = (str(ROOT / "examples" / "cancel_overdue.py"), "--tenant", "t1", "--seconds")
    assert run(studio, *overdue, "3600") == []
    assert run(studio, *overdue, "0") == [f"{late} demo cancelled"]
    assert [studio.job(job).status for job in (ended, late)] == ["completed", "cancelled"]


def test_what_the_page_shows_asks_the_owner(studio: Studio) -> None:
    studio.host()
    job = begun(studio)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "messages.md").read_text(), re.DOTALL)
    code, count = re.subn(r'stop\("\w+"\)', f'stop("{job}")', code)
    assert (count, run(studio, "-c", code)) == (1, [f"True accepted cancelled {studio.job(job).seq}"])
    assert studio.job(job).status == "cancelled"
