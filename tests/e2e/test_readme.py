"""What the README shows is what happens: its commands are run, and their output is compared with what it prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.e2e.conftest import OWN_PIPELINE, ROOT, Service
from tests.media.running import word_error_rate
from tests.waiting import eventually

README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"
EXAMPLE_ID = "9b0e5f0c6c0c4a0f8d1f4e6f2b7a3c5d"


def block(after: str) -> str:
    """The first fenced block after these words."""
    match = re.search(r"^```\w+\n(.*?)```", README[README.index(after) :], re.DOTALL | re.MULTILINE)
    assert match
    return match[1]


def shell(service: Service, command: str, id_: str = "") -> str:
    """What a command of the README prints, against the service under test."""
    address = str(service.api.base_url).rstrip("/")
    command = command.replace(ADDRESS, address).replace(EXAMPLE_ID, id_ or EXAMPLE_ID)
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout


def assert_shown(shown: str, printed: str) -> None:
    """Each line that is shown was printed, in this order; `…` stands for anything."""
    lines = iter(printed.splitlines())
    for line in filter(None, shown.splitlines()):
        like = pattern(line)
        assert line == "…" or any(re.fullmatch(like, found, re.IGNORECASE) for found in lines), (line, printed)


def pattern(line: str) -> str:
    """What a line stands for: a job that is shown a moment later may have begun, and where a comma is heard, or to the
    hundredth of a second when, is a matter of the processor."""
    like = ".*".join(map(re.escape, line.split("…")))
    like = like.replace('"status":"queued"', '"status":"(queued|running|completed)"').replace('"seq":2,', r'"seq":\d+,')
    like = re.sub(r"\d+\\.\d+", r"[\\d.]+", like)
    return re.sub(r'(?<=\w)"', r'\\W?"', like.replace(r"\ ", r"\W+"))


def speech(text: str) -> str:
    """What is said in a transcript whose lines begin with times."""
    return " ".join(re.findall(r"^\[[\d:]+\] (.*)$", text, re.MULTILINE))


def test_the_session_is_a_real_one(service: Service) -> None:
    steps = re.split(r"^\$ ", block("<!-- session -->"), flags=re.MULTILINE)[1:]
    id_ = ""
    assert len(steps) == 4
    for step in steps:
        command, _, shown = step.partition("\n")
        printed = shell(service, command, id_)
        id_ = id_ or json.loads(printed)["id"]
        if command.endswith("transcript.txt"):
            assert word_error_rate(speech(shown), speech(printed)) <= 0.1
        else:
            assert_shown(shown.replace(EXAMPLE_ID, id_), printed)
    assert service.until(id_)["attempt"] == 2


def test_the_pipeline_of_ones_own_runs(service: Service) -> None:
    start, submit = block("Then put it on").splitlines()
    shown = re.fullmatch(r"CALLSHEET_PIPELINES=(\S+) PYTHONPATH=examples make run", start)
    assert shown
    assert set(shown[1].split(",")) <= set(OWN_PIPELINE["CALLSHEET_PIPELINES"].split(","))
    job = service.until(json.loads(shell(service, submit))["id"])
    assert job["status"] == "completed"
    assert job["result"] == {"words": len(README.split())}
    assert len(service.artifact(job["id"], "words.txt").splitlines()) == 3


def test_the_pipeline_of_ones_own_can_be_tried_on_the_spot() -> None:
    command = re.search(r"`\.venv/bin/(callsheet check [^`]+)`", README)
    assert command
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command[1].split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert f'"words": {len(README.split())}' in done.stdout


def test_the_example_in_the_readme_is_in_the_file() -> None:
    example = {line.strip() for line in (ROOT / "examples" / "word_count.py").read_text().splitlines()}
    shown = [line.strip() for line in block("is a whole one").splitlines()]
    assert [line for line in shown if line not in example | {"..."}] == []


def test_every_page_that_the_readme_names_is_there() -> None:
    pages = re.findall(r"\]\(([^)#]+)\)", README)
    assert [page for page in pages if not (ROOT / page).exists()] == []


def test_the_files_on_the_way_of_a_request_are_there() -> None:
    way = README[README.index("Follow one request") :].split("Why it is so")[0]
    assert [path for path in re.findall(r"`([\w/]+\.py)`", way) if not (ROOT / path).exists()] == []


def test_it_is_ready_as_the_table_says(service: Service) -> None:
    eventually(lambda: service.api.get("/readyz").status_code == 200)
    assert service.api.get("/healthz").status_code == 200
