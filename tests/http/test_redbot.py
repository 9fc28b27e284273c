"""REDbot, which knows the rules of HTTP and asks a resource in many ways, finds nothing wrong with ours."""

from __future__ import annotations

from configparser import ConfigParser

import pytest
import thor
from httplint.note import levels
from redbot.resource import HttpResource

from tests.http.service import Api, Stages

SECONDS = 90.0
PATHS = ["", "/events", "/artifacts", "/artifacts/words.txt", "/artifacts/page.html", "/artifacts/numbers.json"]
WRONG = (levels.BAD, levels.WARN)
MEANT = {
    "DISPOSITION_OMITS_FILENAME",  # a name is given as `filename*` only: every client of today knows it
    "DATE_INCORRECT",  # five seconds between an answer and its arrival look to it like a clock that is wrong
}


def examine(urls: list[str]) -> list[HttpResource]:
    """The resources, each asked for plainly, then with conditions, ranges and encodings. All in one go: its event loop
    runs once."""
    config = ConfigParser()
    config.read_dict({"redbot": {"enable_local_access": "True"}})
    left = set(urls)

    def done(url: str) -> None:
        left.discard(url)
        if not left:
            thor.stop()

    resources = [HttpResource(config["redbot"]) for _ in urls]
    for url, resource in zip(urls, resources, strict=True):
        resource.set_request(url)
        resource.on("check_done", lambda url=url: done(url))
        resource.check()
    late = thor.schedule(SECONDS, thor.stop)
    thor.run()
    late.delete()
    assert left == set(), "it does not come to an end"
    return resources


@pytest.fixture(scope="module")
def examined(api: Api, stages: Stages) -> dict[str, HttpResource]:
    """What it says of a job that is over, and of what belongs to it."""
    job = str(api.submit().json()["id"])
    stages.complete(
        job, **{"words.txt": b"some words\n" * 50, "page.html": b"<p>hello" * 50, "numbers.json": b"[1, 2]" * 50}
    )
    return dict(zip(PATHS, examine([f"{api.url}/v1/jobs/{job}{path}" for path in PATHS]), strict=True))


@pytest.mark.parametrize("path", PATHS)
def test_it_warns_of_nothing_and_lets_no_shared_cache_keep_it(examined: dict[str, HttpResource], path: str) -> None:
    resource = examined[path]
    asked = [checked for checked in (resource, *resource.subreqs.values()) if checked.has_response]
    found = [(checked.check_name, note) for checked in asked for note in checked.response.notes]
    assert resource.response.status_code == 200
    assert [
        (check, f"{note}") for check, note in found if note.level in WRONG and type(note).__name__ not in MEANT
    ] == []
    assert {"STORE_PRIVATE_CC", "STORE_NO_STORE"} & {type(note).__name__ for _, note in found}


def test_it_finds_that_artifacts_come_in_ranges_and_under_conditions(examined: dict[str, HttpResource]) -> None:
    for path in PATHS[3:]:
        found = examined[path]
        assert (found.partial_support, found.inm_support, found.ims_support) == (True, True, True)
