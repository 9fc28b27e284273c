"""Who may import whom. The rooms stay apart because this says so, not because everybody remembers."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house.imports import ROOMS, ROOT, Use, python_files, uses

MAY_REACH = {
    "http": {"http", "actors", "jobs", "pipelines", "media", "config"},
    "actors": {"actors", "jobs", "pipelines", "media", "config"},
    "jobs": {"jobs"},
    "pipelines": {"pipelines", "media", "jobs"},
    "media": {"media"},
    "config": {"config"},
}
# Where only one module of a room may be known: how a pipeline looks, what its graph is, how languages are called.
ONLY = {
    ("http", "pipelines"): "callsheet.pipelines.declare",
    ("http", "media"): "callsheet.media.languages",
    ("pipelines", "jobs"): "callsheet.jobs.graph",
}
BELONGS_TO = {
    "falcon": {"http"},
    "gunicorn": {"http", "config"},
    "pykka": {"actors"},
    "dramatiq": {"actors"},
    "redis": {"actors"},
    "hiredis": {"actors"},
    "obstore": {"actors"},
    "pydantic": {"config"},
    "pydantic_settings": {"config"},
    "faster_whisper": {"media"},
    "av": {"media"},
}
READS_THE_ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.putenv"}
EXTRAS = ("s3", "otel")  # imported only where the settings ask for it
PURE = {"jobs"}
WRITES_A_PAGE = "docs.py"  # a command of its own, for `make docs`
NOT_PURE = {"os", "time", "random", "socket", "threading", "subprocess", "asyncio", "pathlib", "io", "uuid", "secrets"}


def complaints(room: str, found: list[Use], *, pure: bool = True) -> Iterator[str]:
    """What a file of this room may not do."""
    for use in found:
        where = f"line {use.line}: {room} may not"
        if use.top in ROOMS and use.top != "http":
            yield f"{where} import {use.what} by its bare name: that makes a second module of it"
        if use.what.startswith("."):
            yield f"{where} import {use.what} relatively: every import says callsheet"
        if use.room and use.room not in MAY_REACH[room]:
            yield f"{where} reach into {use.room} ({use.what})"
        only = ONLY.get((room, use.room or ""))
        if only and not f"{use.what}.".startswith(f"{only}."):
            yield f"{where} know more of {use.room} than {only} ({use.what})"
        if room not in BELONGS_TO.get(use.top, {room}):
            yield f"{where} import {use.top}"
        if use.what in READS_THE_ENVIRONMENT and room != "config":
            yield f"{where} read {use.what}: config does"
        if pure and room in PURE and use.top in NOT_PURE:
            yield f"{where} import {use.top}: its rules need no clock, no chance and no I/O"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_reaches_only_where_it_may(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): list(
            complaints(room, uses(path.read_text("utf-8")), pure=path.name != WRITES_A_PAGE)
        )
        for path in python_files(room)
    }
    assert {path: problems for path, problems in found.items() if problems} == {}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("http", "import redis"),
        ("http", "from dramatiq.errors import DramatiqError"),
        ("http", "def f():\n    import pykka"),
        ("http", "from callsheet.media.probe import probe"),
        ("http", "from callsheet.pipelines import transcribe"),
        ("actors", "import falcon.asgi"),
        ("actors", "from callsheet import http"),
        ("actors", "import importlib\nimportlib.import_module('callsheet.http.app')"),
        ("jobs", "from callsheet.actors import client"),
        ("jobs", "from callsheet.config.settings import Settings"),
        ("jobs", "import time"),
        ("pipelines", "from callsheet.jobs.rules import decide"),
        ("pipelines", "from callsheet.actors import client"),
        ("media", "from callsheet.jobs import graph"),
        ("media", "import os\nos.environ['HOME']"),
        ("media", "import os\nos.getenv('HOME')"),
        ("media", "from os import environ"),
        ("config", "from callsheet.jobs import graph"),
        ("actors", "from jobs.rules import decide"),
        ("actors", "import config"),
        ("actors", "from .host import run_host"),
    ],
)
def test_the_rule_bites(room: str, source: str) -> None:
    assert list(complaints(room, uses(source))) != []


def test_what_is_allowed_passes() -> None:
    source = "import http.client\nfrom callsheet import __version__\nfrom callsheet.jobs.graph import check_graph"
    assert list(complaints("actors", uses(source))) == []


@pytest.mark.parametrize("folder", ["callsheet", "tests", "benchmarks", "examples"])
def test_nobody_imports_a_room_by_its_bare_name(folder: str) -> None:
    files = [path for path in python_files(folder) if not set(path.relative_to(ROOT / folder).parts[:-1]) & set(ROOMS)]
    bare = [f"{p}: {u.what}" for p in files for u in uses(p.read_text("utf-8")) if u.top in ROOMS and u.top != "http"]
    assert bare == []


def test_no_test_module_lends_to_another() -> None:
    """What several of them share is in a module without tests."""
    found = {path: uses(path.read_text("utf-8")) for path in python_files("tests")}
    lent = re.compile(r"tests\.(\w+\.)*test_")
    assert [str(path.relative_to(ROOT)) for path, used in found.items() if any(lent.match(u.what) for u in used)] == []


def test_the_supervisor_knows_no_room() -> None:
    for name in ("up.py", "supervisor.py"):
        found = uses((ROOT / "callsheet" / name).read_text("utf-8"))
        assert {use.room for use in found} - {None, "", "config"} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_the_package_links_to_the_room(room: str) -> None:
    link = ROOT / "callsheet" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room


def test_http_has_no_init_because_it_would_shadow_the_standard_library() -> None:
    assert not (ROOT / "http" / "__init__.py").exists()


def test_the_standard_librarys_http_is_found_in_the_root() -> None:
    script = "import http.client; print(http.client.HTTPConnection.__module__, http.client.__file__)"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("http.client ")
    assert str(ROOT / "http") not in answer.stdout


def test_every_library_a_room_imports_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in EXTRAS for name in project["optional-dependencies"][extra])]
    declared = {_normal(re.split(r"[^\w.-]", name)[0]) for name in wanted} | {"callsheet"}
    owners = packages_distributions()
    files = [path for folder in (*ROOMS, "callsheet") for path in python_files(folder)]
    tops = {use.top for path in files for use in uses(path.read_text("utf-8"))} - set(sys.stdlib_module_names)
    undeclared = {top for top in tops if top and not {_normal(o) for o in owners.get(top, [top])} & declared}
    assert undeclared == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
