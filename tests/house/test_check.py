"""`callsheet check`: the examples are looked at and run on the spot, and what is wrong is said in a line."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.media.probe import probe

ROOT = Path(__file__).parents[2]
JFK = ROOT / "tests" / "fixtures" / "speech_jfk" / "jfk.flac"


def check(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "callsheet", "check", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(("number", "declared", "result"), [(0, "", '"total"'), (1, "split, count, total", '"parts"')])
def test_what_the_page_on_pipelines_shows_runs(tmp_path: Path, number: int, declared: str, result: str) -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number]
    if declared:
        imported = "from callsheet import StageContext, StageOutput, pipeline, stage\n"
        code = f'{imported}{code}shown = pipeline("shown", {declared})\n'
    (tmp_path / "shown.py").write_text(code)
    done = check("shown.py", "--input", ROOT / "README.md", cwd=tmp_path)
    assert (done.returncode, result in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_pipeline_is_described_without_an_input() -> None:
    done = check("examples/price_check/price_check.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  collect        after read; queue io; once for each item of read; may fail" in done.stdout.splitlines()
    assert '"tolerance"' in done.stdout


def test_a_file_that_a_stage_forgot_to_write_is_a_failure_of_that_stage(tmp_path: Path) -> None:
    forgetful = DEMANDING.replace("StageOutput(", "StageOutput(files=(OutputFile('a.txt', 'text/plain'),), ")
    (tmp_path / "demanding.py").write_text(forgetful.replace("import StageContext", "import OutputFile, StageContext"))
    done = check("demanding.py", "--input", JFK, "--params", '{"title": "T"}', cwd=tmp_path)
    assert done.returncode == 1
    assert "one: bad_stage_output: The stage is wrong: 'a.txt' is not a file in the stage's folder." in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [("", "first: bad_stage_output: The stage is wrong: it gave back no items"), ("items=()", "completed")],
)
def test_items_that_are_forgotten_are_not_taken_for_none(tmp_path: Path, given: str, said: str) -> None:
    lines = [
        "from callsheet import StageOutput, pipeline, stage",
        f"first = stage(lambda run: StageOutput({given}), name='first')",
        "second = stage(lambda run: StageOutput(), name='second', needs=first, each=first)",
        "fanned = pipeline('fanned', first, second)",
    ]
    (tmp_path / "fanned.py").write_text("\n".join(lines))
    assert said in check("fanned.py", "--input", JFK, cwd=tmp_path).stdout


DEMANDING = """
import msgspec
from callsheet import StageContext, StageOutput, pipeline, stage

class Params(msgspec.Struct, frozen=True):
    title: str

@stage
def one(run: StageContext) -> StageOutput:
    return StageOutput(result={"title": run.params.title})

demanding = pipeline("demanding", one, params=Params)
"""


def test_a_pipeline_that_requires_a_param_is_described_without_it_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "demanding.py").write_text(DEMANDING)
    described, run, given = (
        check("demanding.py", *more, cwd=tmp_path)
        for more in ((), ("--input", JFK), ("--input", JFK, "--params", '{"title": "T"}'))
    )
    assert (described.returncode, described.stderr, '"title"' in described.stdout) == (0, "", True)
    assert (run.returncode, run.stderr) == (2, "callsheet: --params: Object missing required field `title`\n")
    assert (given.returncode, '"title": "T"' in given.stdout) == (0, True)


def test_a_recording_becomes_a_moving_picture_with_its_sound(tmp_path: Path) -> None:
    done = check("examples/audiogram.py", "--input", JFK, "--output", tmp_path, "--params", '{"color": "cc0000"}')
    assert done.returncode == 0, done.stdout + done.stderr
    facts = probe(tmp_path / "audiogram.mp4")
    assert facts.video is not None
    assert (facts.video.width, facts.video.height) == (720, 720)
    assert facts.duration == pytest.approx(11.0, abs=0.2)
    assert len(facts.audio) == 1


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """The example with places of the test's own: one that answers, and one where nobody is."""
    prices = {"apple": 1.2, "bread": "3.60"}

    class Shop(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(prices).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = Path(shutil.copytree(ROOT / "examples" / "price_check", tmp_path / "price_check"))
    address = f"http://127.0.0.1:{server.server_port}/prices.json"
    (folder / "places.json").write_text(json.dumps({"north": address, "nowhere": "http://127.0.0.1:9/"}))
    yield folder
    server.shutdown()
    server.server_close()


def test_prices_are_compared_and_a_place_that_is_away_is_left_out(places: Path) -> None:
    done = check("price_check.py", "--input", "expected.csv", "--output", "out", cwd=places)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (places / "out" / "prices.csv").read_text().splitlines()
    assert rows == [
        "product,place,expected,found,verdict",
        "apple,north,1.20,1.2,ok",
        "bread,north,3.50,3.60,differs",
        "candle,north,7.00,,missing",
    ]
    assert "failed: place_away: nowhere: ConnectError" in done.stdout


def test_a_job_that_fails_says_why_and_its_exit_code_is_1(places: Path) -> None:
    (places / "bad.csv").write_text("name\nx\n")
    done = check("price_check.py", "--input", "bad.csv", cwd=places)
    assert done.returncode == 1
    assert "read: bad_sheet: the sheet needs the columns 'product' and 'expected', a number" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.py"], "there is no file none.py"),
        (["README.md"], "README.md is no Python file; a file to run it on comes after --input"),
        (["tests/stages/tricks.py"], "must declare one pipeline"),
        (["examples/audiogram.py", "--params", '{"shape": "round"}'], "--params: Invalid enum value 'round'"),
        (["examples/audiogram.py", "--params", "{"], "--params: "),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: list[str], why: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["import no_such_thing\n", "x = (\n"])
def test_of_a_file_that_cannot_be_imported_its_own_lines_are_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    done = check(str(tmp_path / "broken.py"))
    assert done.returncode == 2
    assert done.stderr.endswith("callsheet: broken.py cannot be imported\n")
    assert re.findall(r'File "(.*)", line', done.stderr) == [str(tmp_path / "broken.py")]


def test_what_is_declared_wrongly_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(DEMANDING.replace("title: str", "title: str = 1"))
    done = check("wrong.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    told = "the default of the param 'title' of 'demanding' does not fit: Expected `str`, got `int`"
    assert done.stderr == f"callsheet: wrong.py, line 12: {told}\n"


def test_a_file_by_the_name_of_another_module_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("")
    done = check(str(tmp_path / "json.py"))
    assert done.returncode == 2
    assert "json.py has the name of another module" in done.stderr


def test_one_of_several_is_named() -> None:
    done = check("tests/stages/tricks.py:graph", "--input", JFK, "--params", '{"count": 3}')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clip:1         failed: odd: Not this one." in done.stdout
    assert '"clip:2": "2 first"' in done.stdout
