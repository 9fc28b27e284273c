"""The page /try: what its forms are made of, and what they and the list of jobs do in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import httpx
import msgspec
import numpy as np
import psutil
import pytest

from callsheet.actors.pipelines import load_pipelines
from callsheet.http.pages.forms import forms_page
from callsheet.jobs.messages import LogLines, Stopped
from callsheet.pipelines.declare import Pipeline
from tests.clients.node import Node
from tests.http.sample import pipeline as sample
from tests.http.service import Api, Stages, command
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)  # the first test of a machine installs the clients, and others wait for it
CLIENTS = Path(__file__).parents[1] / "clients"
PIPELINES = [f"callsheet.pipelines.{name}:pipeline" for name in ("transcribe", "shorts", "restyle", "preview")]


class Inner(msgspec.Struct):
    text: str = ""


class Tree(msgspec.Struct, frozen=True):
    within: tuple[Tree, ...] = ()


class Every(msgspec.Struct):
    """A param of each kind."""

    name: str
    sure: bool
    some: Annotated[int, msgspec.Meta(ge=1, le=9, description="A `number`.")] = 3
    share: Annotated[float, msgspec.Meta(ge=0.25, le=0.75)] | None = 0.5
    on: bool = True
    perhaps: bool | None = None
    kind: Literal["a", "b"] = "b"
    maybe: Literal["x", "y"] | None = None
    some_kind: Literal["x"] | None = "x"
    step: Literal[1, 2] = 1
    long: Annotated[str, msgspec.Meta(max_length=5000)] = "<&>"
    mixed: Annotated[int | str, msgspec.Meta(examples=["one"])] = 0
    pair: tuple[int, int] = (1, 2)
    inner: Inner | None = None
    many: Annotated[tuple[Inner, ...], msgspec.Meta(max_length=4)] = ()
    table: dict[str, int] = {}
    tree: Tree = Tree()


def page_of(params: type[msgspec.Struct]) -> str:
    return forms_page({"every": Pipeline("every", params, sample.stages)}, needs_keys=False).decode()


def test_each_kind_of_param_has_its_control_with_its_limits_and_default() -> None:
    page = page_of(Every)
    for control in (
        '<input data-sent name="param-name" required="" value="">',
        '<select data-json data-sent name="param-sure" required=""><option selected></option><option>false</option>',
        '<input type=number name="param-some" aria-description="A number." required="" min="1" max="9" value="3" ',
        '<input type=number data-null name="param-share" min="0.25" max="0.75" value="0.5" step="any">',
        '<input type=checkbox name="param-on" checked="">',
        '<select data-json data-null name="param-perhaps"><option selected></option><option>false</option>',
        '<select name="param-kind" required=""><option>a</option><option selected>b</option></select>',
        '<select data-null name="param-maybe"><option selected></option><option>x</option><option>y</option></select>',
        '<select data-null name="param-some_kind"><option></option><option selected>x</option></select>',
        '<select data-json name="param-step" required=""><option selected>1</option><option>2</option></select>',
        "<details open><summary>Params</summary>",  # since some are required
        '<textarea name="param-long" maxlength="5000">&lt;&amp;&gt;</textarea>',
        '<textarea data-json name="param-mixed" required="" placeholder="&quot;one&quot;">0</textarea>',
        '<textarea data-json name="param-pair" required="">[1,2]</textarea>',
        '<fieldset name="param-inner" data-kind=maybe data-null data-default="null" data-most="1">',
        '<fieldset name="param-many" data-kind=list data-default="[]" data-most="4">',
        '<fieldset name="param-table" data-kind=map data-default="{}" data-most="">',
        '<fieldset name="param-tree" data-kind=object>',
    ):
        assert control in page, control
    assert "A <code>number</code>." in page


def test_params_within_each_other_without_end_are_json_at_last() -> None:
    page = page_of(Tree)
    assert page.count('<fieldset name="param-within"') == 5
    assert page.count('<textarea data-json name="param-within"') == 1


def test_every_param_of_every_pipeline_has_a_field_and_none_is_json() -> None:
    pipelines = load_pipelines(PIPELINES)
    page = forms_page(pipelines, needs_keys=False).decode()
    for name, pipeline in pipelines.items():
        article = page.partition(f'<article id="try-{name}"')[2].partition("</article>")[0]
        assert {field.name for field in msgspec.structs.fields(pipeline.params)} <= set(
            re.findall(r'name="param-(\w+)"', article)
        )
        assert "<textarea data-json" not in article


def test_the_page_may_run_its_own_script_and_speak_to_its_own_service_only(api: Api) -> None:
    answer = httpx.get(f"{api.url}/try")
    policy = answer.headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src 'sha256-[\w+/=]+'; connect-src 'self'; "
        r"img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        policy,
    )
    assert not re.search(r"https?://|<link|<img|<iframe|@import|url\(| on\w+=", answer.text)


class Browser:
    """A browser at work on the page."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def until(self, seen: Callable[[list[Row]], Any]) -> list[Row]:
        """The list of jobs, once it is so."""
        while line := self.line():
            if seen(rows := [Row(*cells) for cells in json.loads(line)]):
                return rows
        raise AssertionError("the browser has ended")

    def end(self) -> dict[str, Any]:
        """What was seen at the job's end."""
        assert self.process.stdout
        output = self.process.stdout.read()  # not communicate(): it would miss what readline() has read ahead
        assert self.process.wait(100) == 0, output
        return dict(json.loads(output.splitlines()[-1]))


class Row(NamedTuple):
    """A job in the list."""

    file: str
    pipeline: str
    status: str
    progress: float
    age: str


@pytest.fixture
def start(node: Node) -> Iterator[Callable[..., Browser]]:
    """Start one of the scripts that have a browser."""
    made: list[Browser] = []

    def start(script: str, *arguments: str) -> Browser:
        made.append(Browser(node.start(CLIENTS / script, *arguments)))
        return made[-1]

    yield start
    for browser in made:
        browser.process.kill()
        browser.process.communicate()


@pytest.fixture
def browse(start: Callable[..., Browser], tmp_path: Path) -> Callable[..., Browser]:
    """Fill in the form of `sample` and send it."""
    (tmp_path / "a.wav").write_bytes(b"sound")

    def fill(url: str, params: dict[str, Any], key: str = "", then: str = "", pipeline: str = "sample") -> Browser:
        return start("form.cjs", url, pipeline, str(tmp_path / "a.wav"), json.dumps(params), key, then)

    return fill


@pytest.fixture
def choose(start: Callable[..., Browser], tmp_path: Path) -> Callable[..., Browser]:
    """Look at the list, and choose the first job with that file that has that status."""

    def look(url: str, file: str, status: str, pictures: int, key: str = "") -> Browser:
        return start("list.cjs", url, str(tmp_path), file, status, str(pictures), key)

    return look


def test_a_form_starts_a_job_and_shows_its_events_and_its_artifacts(
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {"level": "7", "tags": ["x", "y"]})
    job = browser.line()
    token = stages.start(job, "one")
    stages.progress(job, "one", token, 1, 0.25)
    stages.succeed(job, "one", token)
    stages.succeed(job, "two", stages.start(job, "two"), **{"a.txt": b"hello"})
    seen = browser.end()
    found = client.get(f"/v1/jobs/{job}").json()
    assert (found["params"], found["input"]["filename"]) == ({"level": 7, "tags": ["x", "y"]}, "a.wav")
    jobs = client.get("/v1/jobs").json()["jobs"]
    assert [j["id"] for j in jobs if j["params"] == found["params"]] == [job], "a double click is one job"
    told = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [line.split()[:2] for line in seen["events"]] == [[str(e["seq"]), e["type"]] for e in told]
    assert f"{told[3]['seq']} StageProgressed one 25 % at 1" in seen["events"]
    assert (seen["status"], seen["artifacts"]) == ("completed", [["a.txt", f"/v1/jobs/{job}/artifacts/a.txt"]])
    assert seen["saved"] == [["a.txt", "hello"]]
    assert (seen["hosts"], seen["troubles"]) == ([f"127.0.0.1:{api.port}"], [])


def test_where_keys_are_needed_the_form_sends_one_with_everything_and_goes_on_after_a_break(
    api: Api,
    addresses: dict[str, str],
    make_api: Callable[..., Api],
    stages: Stages,
    browse: Callable[..., Browser],
) -> None:
    guarded = make_api(auth="keys", data=str(api.data))
    key = command(addresses, "create", "--tenant", "forms", "--scope", "read", "--scope", "write")
    browser = browse(guarded.url, {}, key)
    job = browser.line()
    stages.succeed(job, "one", stages.start(job, "one"))
    (serving,) = psutil.Process(guarded.process.pid).children()
    serving.kill()  # another one is started
    stages.succeed(job, "two", stages.start(job, "two"), **{"a.txt": b"hello"})
    seen = browser.end()
    assert (seen["status"], seen["saved"]) == ("completed", [["a.txt", "hello"]])
    numbers = [int(line.split()[0]) for line in seen["events"]]
    assert numbers == list(range(1, numbers[-1] + 1))


def test_a_cancel_and_what_is_refused_are_shown(
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser], tmp_path: Path
) -> None:
    browser = browse(api.url, {}, "", "cancel")
    job = browser.line()
    token = stages.start(job, "one")
    stages.progress(job, "one", token, 1, 0.5)
    eventually(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "cancelling")
    assert stages.jobs.ask(job, Stopped("one", token)).ok
    seen = browser.end()
    assert (seen["status"], seen["whole"]) == ("cancelled", True)
    assert seen["focused"], "who pressed the button is left nowhere"
    (tmp_path / "a.wav").write_bytes(b"refuse me")
    refused = browse(api.url, {})
    assert refused.line() == ""
    seen = refused.end()
    assert seen["trouble"].endswith(": it asks for it")
    assert not seen["whole"], "it shows a job where there is none"


def test_params_that_hold_others_are_fields_of_their_own_and_a_retry_changes_some(
    api: Api, make_api: Callable[..., Api], stages: Stages, browse: Callable[..., Browser]
) -> None:
    other = make_api(pipelines="tests.http.sample:nested", data=str(api.data))
    params = {
        "sure": "false",
        "origin": {"y": "1"},
        "end": {"x": "0.5"},
        "numbers": ["3"],
        "parts": {
            "0": {"text": "a", "loud": "false", "places": [{"x": "1"}, {"x": "2", "y": "3"}]},
            "b c": {"text": ""},
        },
    }
    changes = {"level": "4", "parts": {}, "numbers": ["4"]}
    browser = browse(other.url, params, "", f"retry:two:{json.dumps(changes)}", "nested")
    job = browser.line()
    found = httpx.get(f"{other.url}/v1/jobs/{job}").json()["params"]
    assert found == {
        "level": 3,
        "sure": False,
        "origin": {"x": 0.25, "y": 1.0},
        "end": {"x": 0.5, "y": 0.5},
        "numbers": [1, 2, 3],
        "parts": {
            "0": {"text": "a", "loud": False, "places": [{"x": 1.0, "y": 0.5}, {"x": 2.0, "y": 3.0}]},
            "b c": {"text": "", "loud": None, "places": None},
        },
    }
    stages.succeed(job, "one", stages.start(job, "one"))
    stages.fail(job, "two", stages.start(job, "two"))
    stages.succeed(job, "two", stages.start(job, "two"), **{"a.txt": b"hello"})
    seen = browser.end()
    assert (seen["status"], seen["trouble"], seen["troubles"]) == ("completed", "", [])
    changed = httpx.get(f"{other.url}/v1/jobs/{job}").json()["params"]
    assert changed == {**found, "level": 4, "numbers": [1, 2, 3, 4]}


def test_what_the_browser_asks_for_is_unfolded(api: Api, stages: Stages, browse: Callable[..., Browser]) -> None:
    browser = browse(api.url, {}, "", "folded")
    assert browser.line() == "param-level"
    stages.complete(browser.line())
    assert browser.end()["status"] == "completed"


def test_a_file_that_is_gone_before_it_is_sent_is_told(api: Api, browse: Callable[..., Browser]) -> None:
    browser = browse(api.url, {}, "", "gone")
    assert browser.line() == ""
    seen = browser.end()
    assert (seen["trouble"].startswith("A requested file"), seen["whole"]) == (True, False), seen["trouble"]


def test_a_retry_from_a_stage_goes_on_after_the_last_event_that_was_shown(
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {}, "", "retry:two")
    job = browser.line()
    stages.succeed(job, "one", stages.start(job, "one"))
    stages.fail(job, "two", stages.start(job, "two"))
    stages.succeed(job, "two", stages.start(job, "two"), **{"a.txt": b"hello"})
    seen = browser.end()
    told = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [e["data"]["from_stage"] for e in told if e["type"] == "JobRetried"] == ["two"]
    assert [line.split()[:2] for line in seen["events"]] == [[str(e["seq"]), e["type"]] for e in told]
    assert (seen["status"], seen["trouble"], seen["saved"]) == ("completed", "", [["a.txt", "hello"]])


def test_a_job_that_somebody_else_retries_goes_on_where_it_is_shown(
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {}, "", "retried")
    job = browser.line()
    stages.fail(job, "one", stages.start(job, "one"))
    assert browser.line() == "ended"
    assert client.post(f"/v1/jobs/{job}/retry").status_code == 202
    stages.complete(job)
    seen = browser.end()
    told = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert [line.split()[:2] for line in seen["events"]] == [[str(e["seq"]), e["type"]] for e in told]
    assert (seen["status"], seen["trouble"]) == ("completed", "")


def test_a_page_that_is_hidden_lets_go_of_its_feeds_and_goes_on_when_it_is_seen(
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {}, "", "hide")
    job = browser.line()
    assert browser.line() == "hidden"
    stages.complete(job)
    told = client.get(f"/v1/jobs/{job}/events").json()["events"]
    seen = browser.end()
    assert [line.split()[:2] for line in seen["events"]] == [[str(e["seq"]), e["type"]] for e in told]


def test_that_the_service_does_not_answer_is_shown_until_it_does(
    api: Api, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {}, "", "away")
    job = browser.line()
    assert browser.line() == "The service does not answer"
    assert browser.line() == "back"
    stages.complete(job)
    assert browser.end()["status"] == "completed"


def test_the_list_shows_a_job_of_another_client_and_opens_it_with_its_pictures(
    api: Api, client: httpx.Client, stages: Stages, choose: Callable[..., Browser]
) -> None:
    for _ in range(21):
        assert api.submit(name="x" * 200).status_code == 202
    name = "<img src=x onerror=alert(1)> &amp; a.wav"
    browser = choose(api.url, name, "completed", 1)
    assert len(browser.until(bool)) == 20
    job = api.submit(name=name).json()["id"]
    first = browser.until(lambda rows: rows[0].file == name)[0]
    assert (first.pipeline, first.status, first.progress, "sec" in first.age) == ("sample", "queued", 0, True)
    token = stages.start(job, "one")
    stages.progress(job, "one", token, 1, 0.5)
    browser.until(lambda rows: rows[0].status == "running" and 0 < rows[0].progress < 1)
    stages.succeed(job, "one", token)
    token = stages.start(job, "two")
    lines = [f"line {n}" for n in range(320)]
    for n, line in enumerate(lines):
        stages.jobs.tell(job, LogLines("two", token, n + 1, (line,)))
    drawn, large = picture(3), picture(5) + bytes(2 * 1024 * 1024)
    stages.succeed(job, "two", token, **{"a.txt": b"hello", "large.png": large, "small.png": drawn})
    seen = browser.end()
    told = client.get(f"/v1/jobs/{job}/events?limit=1000").json()["events"]
    assert [line.split()[:2] for line in seen["events"]] == [[str(e["seq"]), e["type"]] for e in told[-300:]]
    assert (seen["job"], seen["file"], seen["status"]) == (job, name, "completed")
    assert [name for name, _ in seen["artifacts"]] == ["a.txt", "large.png", "small.png"]
    assert seen["pictures"] == [["small.png", 3]]
    assert not seen["torn"], "a long name leaves no room for words"
    assert (seen["hosts"], seen["troubles"]) == ([f"127.0.0.1:{api.port}"], [])


def test_a_job_that_runs_is_opened_too_and_with_keys_the_list_is_that_of_the_key(
    api: Api,
    addresses: dict[str, str],
    make_api: Callable[..., Api],
    stages: Stages,
    choose: Callable[..., Browser],
) -> None:
    guarded = make_api(auth="keys", data=str(api.data))
    key = command(addresses, "create", "--tenant", "lists", "--scope", "read", "--scope", "write")
    headers = {"Authorization": f"Bearer {key}"}
    form: dict[str, Any] = {"data": {"pipeline": "sample"}, "files": {"file": ("b.wav", b"sound")}}
    job = httpx.post(f"{guarded.url}/v1/jobs", headers=headers, **form).json()["id"]
    token = stages.start(job, "one")
    stages.fail(job, "one", token)
    httpx.post(f"{guarded.url}/v1/jobs/{job}/retry", headers=headers).raise_for_status()
    token = stages.start(job, "one")
    browser = choose(guarded.url, "b.wav", "running", 1, key)
    assert [(row.file, row.status) for row in browser.until(bool)] == [("b.wav", "running")]
    stages.succeed(job, "one", token)
    stages.succeed(job, "two", stages.start(job, "two"), **{"a.png": picture(3)})
    seen = browser.end()
    told = httpx.get(f"{guarded.url}/v1/jobs/{job}/events", headers=headers).json()["events"]
    assert [line.split()[:2] for line in seen["events"]] == [[str(e["seq"]), e["type"]] for e in told]
    assert (seen["status"], seen["pictures"]) == ("completed", [["a.png", 3]])
    assert all("401" in trouble for trouble in seen["troubles"])  # the key that it tried first


def picture(width: int) -> bytes:
    """A PNG of that width."""
    return bytes(cv2.imencode(".png", np.zeros((2, width, 3), np.uint8))[1])
