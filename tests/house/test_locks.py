"""The locks hold every dependency, with hashes, and say nothing of where anybody downloads from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.txt": ["embedded", "models"],
    "requirements-dev.txt": ["embedded", "models", "dev"],
    "requirements-bench.txt": ["embedded", "models", "bench"],
}


def locked(name: str) -> dict[str, set[str]]:
    """Name to versions (one for each marker) of everything in a lock."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==([\w.+!]+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_every_dependency_is_locked_to_a_version_in_its_range(lock: str, extras: list[str]) -> None:
    wanted = PROJECT["dependencies"] + [r for extra in extras for r in PROJECT["optional-dependencies"][extra]]
    have = locked(lock)
    for requirement in map(Requirement, wanted):
        versions = have.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not in {lock}: run `make lock`"
        assert all(requirement.specifier.contains(v) for v in versions), f"{requirement} is not what {lock} has"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_carries_hashes(lock: str) -> None:
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_no_folder(lock: str) -> None:
    assert (
        re.findall(r"://|--(?:extra-)?index|--find-links|^-f |\s/\w+/", (ROOT / lock).read_text(), re.MULTILINE) == []
    )


def test_the_locks_agree() -> None:
    run = locked("requirements.txt")
    for lock in LOCKS:
        assert run.items() <= locked(lock).items()


def test_the_checkout_itself_is_built_with_a_locked_setuptools() -> None:
    (built_with,) = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert all(built_with.specifier.contains(version) for version in locked("requirements.txt")["setuptools"])
