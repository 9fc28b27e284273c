"""The commands of the checkout say what they are, and what is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.house.imports import ROOT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_lists_every_command() -> None:
    listed = {line.split()[1] for line in make("help").stdout.splitlines() if line.strip()}
    assert listed >= {"help", "run", "test", "check", "bench", "soak", "fuzz", "docs", "clean"}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make --no-print-directory check" in (ROOT / ".ci" / "run").read_text()
    assert "make check" in (ROOT / "README.md").read_text()


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python-of-old"
    old.write_text('#!/bin/sh\ntest "$1" = -V && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    answer = make(f"VENV={tmp_path}/env", f"PYTHON={old}", f"{tmp_path}/env/made.stamp")
    assert answer.returncode != 0
    assert f"Callsheet needs Python 3.11 or newer; {old} is Python 3.9.2" in answer.stdout


def test_a_python_that_does_not_run_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "python-of-nobody"
    broken.write_text("#!/bin/sh\necho no such version >&2\nexit 127\n")
    broken.chmod(0o755)
    answer = make(f"VENV={tmp_path}/env", f"PYTHON={broken}", f"{tmp_path}/env/made.stamp")
    assert answer.returncode != 0
    assert (
        f"Callsheet needs Python 3.11 or newer; {broken} is one that does not run. Try: make PYTHON=" in answer.stdout
    )


def test_no_python_at_all_is_said(tmp_path: Path) -> None:
    answer = make(f"VENV={tmp_path}/env", "PYTHON=no-such-python", f"{tmp_path}/env/made.stamp")
    assert answer.returncode != 0
    assert "Callsheet needs Python 3.11 or newer; there is no no-such-python." in answer.stdout


def installing(tmp_path: Path, pip: str) -> subprocess.CompletedProcess[str]:
    """Install the locked packages with this shell command in the place of pip."""
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    (env / "made.stamp").touch()
    (env / "bin" / "python").write_text(f"#!/bin/sh\ncase $* in *--require-hashes*) {pip} ;; esac\n")
    (env / "bin" / "python").chmod(0o755)
    return make(f"VENV={env}", f"{env}/run.stamp")


def test_an_install_is_one_line_where_nobody_looks_and_errors_are_shown(tmp_path: Path) -> None:
    done = installing(tmp_path, "echo Collecting redis==8.1.0; echo '  Downloading it'; echo a warning >&2")
    assert (done.returncode, done.stdout) == (0, "Installing requirements.txt …\n")
    assert "a warning" in done.stderr
    assert (tmp_path / "env" / "run.stamp").exists()


def test_an_install_that_fails_says_so_and_is_not_taken_for_done(tmp_path: Path) -> None:
    done = installing(tmp_path, "echo 'ERROR: no such package' >&2; exit 1")
    assert done.returncode != 0
    assert "ERROR: no such package" in done.stderr
    assert "Not installed: the lines above say why." in done.stdout
    assert not (tmp_path / "env" / "run.stamp").exists()
