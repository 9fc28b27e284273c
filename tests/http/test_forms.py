"""The page /try: what its forms are made of, and what they do in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import msgspec
import psutil
import pytest

from callsheet.actors.pipelines import load_pipelines
from callsheet.http.pages.forms import forms_page
from callsheet.jobs.messages import Stopped
from callsheet.pipelines.declare import Pipeline
from tests.clients.node import Node
from tests.http.sample import pipeline as sample
from tests.http.service import Api, Stages, eventually
from tests.http.test_keys import command

pytestmark = pytest.mark.timeout(400)  # the first test of a machine installs the clients, and others wait for it
SCRIPT = Path(__file__).parents[1] / "clients" / "form.cjs"
PIPELINES = [f"callsheet.pipelines.{name}:pipeline" for name in ("transcribe", "shorts", "restyle", "preview")]


class Inner(msgspec.Struct):
    text: str = ""


class Every(msgspec.Struct):
    """A param of each kind."""

    name: str
    some: Annotated[int, msgspec.Meta(ge=1, le=9, description="A `number`.")] = 3
    share: Annotated[float, msgspec.Meta(ge=0.25, le=0.75)] | None = 0.5
    on: bool = True
    kind: Literal["a", "b"] = "b"
    maybe: Literal["x", "y"] | None = None
    long: Annotated[str, msgspec.Meta(max_length=5000)] = "<&>"
    inner: Inner | None = None
    many: Annotated[tuple[Inner, ...], msgspec.Meta(examples=[[{"text": "one"}]])] = ()


def test_each_kind_of_param_has_its_control_with_its_limits_and_default() -> None:
    page = forms_page({"every": Pipeline("every", Every, sample.stages)}, needs_keys=False).decode()
    for control in (
        '<input name="param-name" required="" value="">',
        '<input type=number name="param-some" min="1" max="9" value="3" step="1">',
        '<input type=number name="param-share" min="0.25" max="0.75" value="0.5" step="any">',
        '<input type=checkbox name="param-on" checked="">',
        '<select name="param-kind"><option>a</option><option selected>b</option></select>',
        '<select name="param-maybe"><option></option><option>x</option><option>y</option></select>',
        '<textarea name="param-long" maxlength="5000">&lt;&amp;&gt;</textarea>',
        '<textarea data-json name="param-inner"></textarea>',
        '<textarea data-json name="param-many" placeholder="[{&quot;text&quot;:&quot;one&quot;}]"></textarea>',
    ):
        assert control in page, control
    assert "A <code>number</code>." in page


def test_every_param_of_every_pipeline_has_a_control() -> None:
    pipelines = load_pipelines(PIPELINES)
    page = forms_page(pipelines, needs_keys=False).decode()
    for name, pipeline in pipelines.items():
        article = page.partition(f'<article id="try-{name}">')[2].partition("</article>")[0]
        controls = re.findall(r'name="param-(\w+)"', article)
        assert controls == [field.name for field in msgspec.structs.fields(pipeline.params)]


def test_the_page_may_run_its_own_script_and_speak_to_its_own_service_only(api: Api) -> None:
    answer = httpx.get(f"{api.url}/try")
    policy = answer.headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src 'sha256-[\w+/=]+'; connect-src 'self'; "
        r"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        policy,
    )
    assert not re.search(r"https?://|<link|<img|<iframe|@import|url\(| on\w+=", answer.text)


class Browser:
    """A browser at work on a form."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> dict[str, Any]:
        """What was seen at the job's end."""
        output, _ = self.process.communicate(timeout=100)
        assert self.process.returncode == 0, output
        return dict(json.loads(output))


@pytest.fixture
def browse(node: Node, tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Fill in the form of `sample` and send it."""
    (tmp_path / "a.wav").write_bytes(b"sound")
    made: list[Browser] = []

    def start(url: str, params: dict[str, Any], key: str = "", then: str = "") -> Browser:
        given = (url, "sample", str(tmp_path / "a.wav"), json.dumps(params), key, then)
        made.append(Browser(node.start(SCRIPT, *given)))
        return made[-1]

    yield start
    for browser in made:
        browser.process.kill()
        browser.process.communicate()


def test_a_form_starts_a_job_and_shows_its_events_and_its_artifacts(
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {"level": "7", "tags": '["x", "y"]'})
    job = browser.line()
    token = stages.start(job, "one")
    stages.progress(job, "one", token, 1, 0.25)
    stages.succeed(job, "one", token)
    stages.succeed(job, "two", stages.start(job, "two"), **{"a.txt": b"hello"})
    seen = browser.end()
    found = client.get(f"/v1/jobs/{job}").json()
    assert (found["params"], found["input"]["filename"]) == ({"level": 7, "tags": ["x", "y"]}, "a.wav")
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
    api: Api, client: httpx.Client, stages: Stages, browse: Callable[..., Browser]
) -> None:
    browser = browse(api.url, {}, "", "cancel")
    job = browser.line()
    token = stages.start(job, "one")
    eventually(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "cancelling")
    assert stages.jobs.ask(job, Stopped("one", token)).ok
    assert browser.end()["status"] == "cancelled"
    refused = browse(api.url, {"tags": "7"})
    assert refused.line() == ""
    assert refused.end()["status"].startswith("The parameters do not fit the pipeline: ")
