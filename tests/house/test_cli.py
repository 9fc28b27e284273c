"""The command `callsheet` answers quickly, and says in one line what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.house.running import free_port


def callsheet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "callsheet", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_secret_of_webhooks_can_be_had_before_anything_was_started(tmp_path: Path) -> None:
    first, again = (callsheet("webhooks", "secret", "show", CALLSHEET_DATA=str(tmp_path)) for _ in range(2))
    assert (first.returncode, first.stdout[:6]) == (0, "whsec_"), first.stderr
    assert again.stdout == first.stdout


def test_help_lists_the_commands() -> None:
    answer = callsheet("--help")
    assert answer.returncode == 0
    assert all(command in answer.stdout for command in ("up", "api", "host", "worker"))


def test_help_loads_neither_the_rooms_nor_the_big_libraries() -> None:
    script = (
        "import sys\nsys.argv = ['callsheet', '--help']\nfrom callsheet.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "big = {'redis', 'falcon', 'dramatiq', 'pykka', 'numpy', 'av', 'faster_whisper', 'gunicorn'}\n"
        "rooms = ['callsheet.' + r for r in ('http', 'actors', 'media')]\n"
        "print('loaded:', sorted(big & set(sys.modules)), [r for r in rooms if r in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.endswith("loaded: [] []\n")


@pytest.mark.parametrize("command", ["up", "api", "host", "worker"])
def test_settings_that_cannot_work_are_one_line_and_exit_code_2(command: str) -> None:
    answer = callsheet(command, CALLSHEET_BIND="0.0.0.0", CALLSHEET_AUTH="off")
    assert answer.returncode == 2
    assert answer.stderr.startswith("callsheet: bind=0.0.0.0 opens the service to the network")
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["api", "host", "worker"])
def test_a_role_without_its_redis_says_so_in_one_line(command: str) -> None:
    answer = callsheet(command)
    assert answer.returncode == 2
    assert answer.stderr.startswith("callsheet: CALLSHEET_REDIS_URL is not set; `callsheet up` starts a private Redis")
    assert len(answer.stderr.splitlines()) == 1


def test_an_api_without_its_pipelines_says_so_in_one_line_and_is_not_tried_again(
    redis_url: str, tmp_path: Path
) -> None:
    settings = {"REDIS_URL": redis_url, "DATA": str(tmp_path), "PORT": str(free_port()), "API_WORKERS": "4"}
    answer = callsheet("api", CALLSHEET_PIPELINES="no.such:thing", **{f"CALLSHEET_{n}": v for n, v in settings.items()})
    assert answer.returncode == 2
    assert "callsheet: CALLSHEET_PIPELINES: no.such:thing: No module named 'no'" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(("command", "given"), [("up", False), ("up", True), ("api", True)])
def test_the_network_is_not_served_while_nobody_has_a_key(
    command: str, given: bool, redis_url: str, redis_binary: Path, tmp_path: Path
) -> None:
    redis = redis_url if given else ""
    answer = callsheet(command, CALLSHEET_BIND="0.0.0.0", CALLSHEET_DATA=str(tmp_path), CALLSHEET_REDIS_URL=redis)
    assert answer.returncode == 2
    assert answer.stderr == (
        "callsheet: bind=0.0.0.0 opens the service to the network, and there is no key to it: "
        "make one first (callsheet keys create --tenant NAME), or take bind=127.0.0.1\n"
    )


def test_a_key_can_be_made_before_the_service_ever_ran(redis_binary: Path, tmp_path: Path) -> None:
    """The private Redis runs for just that long, and keeps it."""
    made = callsheet("keys", "create", "--tenant", "acme", CALLSHEET_DATA=str(tmp_path / "new"))
    assert made.stdout.startswith("csk_"), made.stderr
    assert " acme " in callsheet("keys", "list", CALLSHEET_DATA=str(tmp_path / "new")).stdout
    assert not list(tmp_path.rglob("*.sock"))


def test_the_version_is_the_packages() -> None:
    assert callsheet("--version").stdout.strip() == version("callsheet")
