"""The house is found through the links in every way it can be installed: wheel, sdist, editable."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.house.imports import ROOMS, ROOT

pytestmark = pytest.mark.timeout(300)
NOT_PACKAGED = shutil.ignore_patterns(
    ".git", ".venv", "var", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)
LOOK = """
import callsheet, importlib, json, pathlib, http.client
names, home = {names}, pathlib.Path(callsheet.__file__).parent
print(json.dumps({{
    "files": {{name: importlib.import_module("callsheet." + name).__file__ for name in names}},
    "data": [name for name in {data} if home.joinpath(name).exists()],
    "stdlib": http.client.__file__,
}}))
"""


def carried() -> list[str]:
    """The files every installation must hold, relative to the package."""
    kinds = (".py", ".lua", ".conf", ".html", ".js", ".css", ".svg", ".onnx", ".ttf")
    files = [p for room in ROOMS for p in (ROOT / room).rglob("*") if "__pycache__" not in p.parts]
    rooms = [p for p in files if p.suffix in kinds or p.name.endswith(".LICENSE.txt")]
    own = [p.relative_to(ROOT / "callsheet") for p in (ROOT / "callsheet").glob("*.py")]
    return sorted(map(str, ["py.typed", *own, *(p.relative_to(ROOT) for p in rooms)]))


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the checkout, links kept."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "callsheet", symlinks=True, ignore=NOT_PACKAGED)


@pytest.fixture(scope="module")
def built(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist, and the wheel built *from the sdist*."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy), cwd=out)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def install(what: Path, folder: Path, *options: str) -> Path:
    """Install into a fresh environment that borrows the libraries of this one: its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    site.joinpath("borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", *options, str(what), cwd=folder)
    return python


def look(python: Path, cwd: Path) -> dict[str, dict[str, str]]:
    names = ["config.settings", "jobs.graph", "pipelines.declare", "media.errors", "cli", "supervisor"]
    return dict(json.loads(run(python, "-c", LOOK.format(names=names, data=carried()), cwd=cwd)))


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_an_installation_holds_everything_and_works(
    kind: str, copy: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    sdist, wheel = built
    what = {"wheel": wheel, "sdist": sdist, "editable": copy}[kind]
    environment = tmp_path / "env"
    python = install(what, environment, *(["--editable"] if kind == "editable" else []))
    found = look(python, tmp_path)
    home = copy if kind == "editable" else environment
    assert [f for f in found["files"].values() if not Path(f).resolve().is_relative_to(home)] == []
    assert list(found["data"]) == carried()
    assert not Path(str(found["stdlib"])).is_relative_to(home)
    assert run(environment / "bin" / "callsheet", "--version", cwd=tmp_path).strip()


def test_the_wheel_holds_every_file_of_every_room_and_nothing_beside_the_package(built: tuple[Path, Path]) -> None:
    names = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    assert {name for name in names if not name.startswith("callsheet/")} == set()
    assert {f"callsheet/{name}" for name in carried()} - names == set()


def test_the_sdist_carries_license_and_notice(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= names
