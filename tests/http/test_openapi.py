"""The document says what the application does: its routes, its types, its answers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import falcon.inspect
import httpx
import msgspec
import pytest
from openapi_spec_validator import validate

from callsheet.actors.pipelines import load_pipelines
from callsheet.config.settings import Settings
from callsheet.http import app as application
from callsheet.http import schemas
from callsheet.http.openapi.asyncapi import asyncapi
from callsheet.http.openapi.document import OPERATIONS, TAGS, curl, openapi
from callsheet.http.openapi.model import Method
from callsheet.http.pages.documents import documents
from callsheet.jobs.events import BODIES
from callsheet.pipelines.declare import Pipeline
from tests.http.contract import validator
from tests.http.service import Api, Stages

SAMPLE = load_pipelines(["tests.http.sample:pipeline"])


def as_read(document: object) -> Any:
    return json.loads(json.dumps(document))


@pytest.fixture(scope="module")
def document() -> Any:
    return as_read(openapi(SAMPLE))


def test_each_route_and_method_has_an_operation_and_each_operation_a_route(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for around in ("guarded", "counted_once"):
        monkeypatch.setattr(application, around, lambda app, *_: app)
    app: Any = application.create_app(settings)
    routes = falcon.inspect.inspect_routes(app)
    served = {(method.method, route.path) for route in routes for method in route.methods if not method.internal}
    gets = {("HEAD", path) for method, path in served if method == "GET"}
    sockets = {("WEBSOCKET", path) for method, path in OPERATIONS if method == "GET"}
    assert served - gets - sockets == set(OPERATIONS)


def test_the_document_is_openapi_3_1(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


@pytest.mark.parametrize("route", [route for route, operation in OPERATIONS.items() if operation.example])
def test_the_example_of_an_operation_is_a_request_for_it(route: tuple[Method, str]) -> None:
    words = shlex.split(curl(OPERATIONS[route], "http://host"))
    implied = "POST" if {"-F", "--json"} & set(words) else "HEAD" if "-I" in words else "GET"
    method = words[words.index("-X") + 1] if "-X" in words else implied
    (url,) = [word for word in words if word.startswith("http://host/")]
    path = re.sub(r"{\w+}", "[^/]+", route[1])
    assert method == route[0]
    assert re.fullmatch(path, url.removeprefix("http://host").partition("?")[0])


def test_every_tag_is_explained_and_every_explained_tag_is_used() -> None:
    assert {operation.tag for operation in OPERATIONS.values()} == set(TAGS)


def test_a_submission_is_described_by_the_params_of_the_pipelines(document: Any) -> None:
    checker = validator(document, {"$ref": "#/components/schemas/Submission"})
    good = {"pipeline": "sample", "params": {"level": 9}, "file": "x"}
    assert checker.is_valid(good)
    for bad in ({"pipeline": "other"}, {"params": {"level": 10}}, {"params": {"lvl": 1}}, {"extra": 1}, {"file": ""}):
        assert not checker.is_valid({**good, **bad}), bad


def test_what_the_service_answers_is_what_the_document_says(
    document: Any, job: str, client: httpx.Client, stages: Stages
) -> None:
    stages.complete(job, **{"a.txt": b"hello"})
    for path, name in (
        (f"/v1/jobs/{job}", "Job"),
        ("/v1/jobs?limit=3", "JobPage"),
        (f"/v1/jobs/{job}/events", "EventPage"),
        (f"/v1/jobs/{job}/artifacts", "ArtifactPage"),
        ("/v1/pipelines", "PipelinePage"),
        ("/", "Doors"),
        ("/readyz", "Status"),
        (f"/v1/jobs/{'0' * 32}", "Problem"),
    ):
        validator(document, {"$ref": f"#/components/schemas/{name}"}).validate(client.get(path).json())


def test_the_documents_are_served_and_kept(client: httpx.Client, document: Any) -> None:
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", document)
    assert client.get("/asyncapi.json").json() == as_read(asyncapi())
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value["$ref"],) if "$ref" in value else ()
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from refs(member)


def test_every_reference_of_the_feeds_document_leads_somewhere() -> None:
    feeds = as_read(asyncapi())
    for ref in refs(feeds):
        found = feeds
        for step in ref.removeprefix("#/").split("/"):
            found = found[step]


def test_every_event_is_a_message_of_every_feed_under_its_type() -> None:
    feeds = as_read(asyncapi())
    for name in ("jobEvents", "jobSocket"):
        assert set(BODIES) <= set(feeds["channels"][name]["messages"])
    told = feeds["components"]["schemas"]["TenantEvent"]["anyOf"]
    assert {ref["$ref"].rpartition("/")[2] for ref in told} == {f"{name}Event" for name in BODIES}
    for name in BODIES:
        assert feeds["components"]["schemas"][f"{name}Event"]["properties"]["type"] == {"enum": [name]}


def test_every_event_of_a_real_job_fits_its_type(job: str, client: httpx.Client, stages: Stages) -> None:
    stages.progress(job, "one", stages.start(job, "one"), 1, 0.5)
    client.post(f"/v1/jobs/{job}/cancel")
    feeds = as_read(asyncapi())
    events = client.get(f"/v1/jobs/{job}/events").json()["events"]
    assert len(events) >= 4
    for event in events:
        validator(feeds, {"$ref": f"#/components/schemas/{event['type']}Event"}).validate(event)


def test_the_page_shows_everything_and_loads_nothing(api: Api, document: Any) -> None:
    answer = httpx.get(f"{api.url}/docs")
    page = answer.text
    for operation in OPERATIONS.values():
        assert f'id="{operation.id}"' in page
        assert f'href="#{operation.id}"' in page
    for name in BODIES:
        assert f'id="type-{name}"' in page
    for name in document["components"]["schemas"]:
        assert f'id="type-{name}"' in page
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
    hosts = set(re.findall(r"\w+://([^/\s\"<]+)", page))
    assert hosts <= {"127.0.0.1:8080"}
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(| on\w+=", page)


def test_the_page_may_do_nothing_but_look_as_it_does(api: Api) -> None:
    policy = httpx.get(f"{api.url}/docs").headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]+'; "
        r"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        policy,
    )


class Odd(msgspec.Struct):
    """<script>alert(1)</script>"""

    field: Annotated[str, msgspec.Meta(description="<b>bold</b>", pattern='"><i>')] = '<u>"><i>'


def test_what_the_author_of_a_pipeline_writes_reaches_the_page_as_text() -> None:
    odd = Pipeline("odd", Odd, SAMPLE["sample"].stages)
    page = dict(documents({"odd": odd}))["/docs"].body
    assert b"&lt;script&gt;" in page
    assert not {tag for tag in (b"<script", b"<b>", b"<i>", b"<u>") if tag in page}


def test_every_answer_has_a_type_with_a_sentence() -> None:
    kinds: list[type[msgspec.Struct]] = [schemas.Job, schemas.JobPage, schemas.Problem, *schemas.EVENTS.values()]
    for kind in kinds:
        assert kind.__doc__
        assert not kind.__doc__.startswith(kind.__name__)
