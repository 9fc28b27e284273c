"""`callsheet up` starts everything in order, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from callsheet.config.redis_server import socket_path, socket_url
from callsheet.config.settings import load_settings
from callsheet.up import _greeting
from tests.house.running import Running, free_port
from tests.waiting import eventually

Start = Callable[..., Running]


@pytest.fixture
def start(redis_binary: Path, tmp_path: Path) -> Iterator[Start]:
    """Start `up` with the roles of a scenario, on a data folder and a port of its own."""
    started: list[Running] = []

    def start(scenario: str = "healthy", **environment: str) -> Running:
        defaults = {"CALLSHEET_DATA": str(tmp_path / "data"), "CALLSHEET_PORT": str(free_port())}
        command = [sys.executable, "-m", "tests.house.tiny_service", scenario]
        started.append(Running(command, tmp_path / f"output-{len(started)}", **{**defaults, **environment}))
        return started[-1]

    yield start
    for running in started:
        running.clean_up()


def journal_client(tmp_path: Path) -> redis.Redis:
    return redis.Redis.from_url(socket_url(socket_path(tmp_path / "data" / "redis" / "journal", "journal")))


def command(process: psutil.Process) -> list[str]:
    """What it runs; nothing if it ends while we look."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def stopped(running: Running) -> list[str]:
    return re.findall(r"stopped name=(\S+)", running.text)


def test_it_starts_redis_first_and_stops_it_last(start: Start) -> None:
    up = start()
    up.until("Callsheet is ready: http://127.0.0.1:")
    assert re.findall(r"started name=(\S+)", up.text) == ["redis-journal", "redis-broker", "behind", "front"]
    up.signal(signal.SIGINT)
    assert up.ends() == 0
    assert stopped(up) == ["front", "behind", "redis-broker", "redis-journal"]
    up.is_gone()


def test_ctrl_c_in_the_terminal_reaches_only_the_supervisor(start: Start) -> None:
    up = start()
    up.until("Callsheet is ready")
    assert {os.getpgid(p.pid) for p in up.family() if p.pid != up.process.pid}.isdisjoint({os.getpgid(up.process.pid)})


def test_kill_9_leaves_no_orphan_and_the_next_start_goes_on(start: Start, tmp_path: Path) -> None:
    up = start()
    up.until("Callsheet is ready")
    with journal_client(tmp_path) as client:
        client.set("kept", "yes")
    up.signal(signal.SIGKILL)
    up.ends()
    again = start()
    again.until("Callsheet is ready")
    up.is_gone()
    with journal_client(tmp_path) as client:
        assert client.get("kept") == b"yes"


def test_redis_holds_the_lock_too_so_that_it_is_free_only_when_the_log_is_closed(start: Start, tmp_path: Path) -> None:
    up = start()
    up.until("Callsheet is ready")
    lock = str(tmp_path / "data" / "up.lock")
    for name in ("redis-journal", "redis-broker"):
        assert lock in [file.path for file in psutil.Process(up.pid_of(name)).open_files()]


def test_a_role_that_dies_is_started_again_visibly(start: Start) -> None:
    up = start("mortal")
    up.until('starting again name=mortal because="ended with exit code 7"')
    up.until(r"(?s)started name=mortal.*started name=mortal")
    eventually(lambda: ["sleep", "601"] not in [command(p) for p in up.family()])  # the dead role's child
    up.signal(signal.SIGTERM)
    assert up.ends() == 0
    up.is_gone()


def test_a_killed_redis_comes_back_with_its_data(start: Start, tmp_path: Path) -> None:
    up = start()
    up.until("Callsheet is ready")
    with journal_client(tmp_path) as client:
        client.set("kept", "yes")
        os.kill(up.pid_of("redis-journal"), signal.SIGKILL)
        up.until('starting again name=redis-journal because="was killed by SIGKILL"')

        def kept() -> object:
            try:
                return client.get("kept")
            except redis.RedisError:
                return None

        assert eventually(kept) == b"yes"


def test_a_role_that_cannot_start_ends_it_all_with_exit_code_1(start: Start) -> None:
    up = start("broken")
    assert up.ends() == 1
    assert "broken ended with exit code 3 (3 times in a row)" in up.text
    up.is_gone()


def test_a_role_whose_settings_are_wrong_is_not_tried_again(start: Start) -> None:
    up = start("mistaken")
    assert up.ends() == 1
    assert up.text.count("callsheet: nonsense") == 1
    assert 'giving up reason="mistaken ended with exit code 2"' in up.text


def test_a_role_that_ignores_the_signal_is_killed_with_its_children(start: Start) -> None:
    up = start("stubborn")
    up.until("Callsheet is ready")
    up.signal(signal.SIGTERM)
    assert up.ends_within(10) == 0
    assert "did not stop in time: killed name=stubborn" in up.text
    up.is_gone()


def test_even_two_that_never_stop_are_gone_within_10_seconds_and_redis_had_its_turn(start: Start) -> None:
    up = start("very_stubborn")
    up.until("Callsheet is ready")
    up.signal(signal.SIGTERM)
    assert up.ends_within(10) == 0
    assert stopped(up) == ["mule", "stubborn", "redis-broker", "redis-journal"]
    assert "stopped name=redis-journal code=0" in up.text
    up.is_gone()


def test_a_second_ctrl_c_hurries(start: Start) -> None:
    up = start("unhurried")
    up.until("Callsheet is ready")
    up.signal(signal.SIGINT)
    up.until("stopping signal=SIGINT")
    up.signal(signal.SIGINT)
    assert up.ends(30) == 0
    up.is_gone()


def test_a_second_one_on_the_same_data_is_refused_and_harms_nothing(start: Start) -> None:
    first = start()
    first.until("Callsheet is ready")
    second = start()
    assert second.ends(60) != 0  # it does not wait for one that lives; for what a dead one left it would
    assert f"another `callsheet up` (process {first.process.pid}) uses the data folder" in second.text
    assert len(second.text.splitlines()) == 1
    assert first.process.poll() is None


def test_a_port_in_use_is_one_clear_line(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = start(CALLSHEET_PORT=str(port))
        assert up.ends() != 0
    assert up.text == f"callsheet: 127.0.0.1:{port} is in use; set CALLSHEET_PORT to another port\n"


def test_a_data_folder_that_cannot_be_written_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    up = start(CALLSHEET_DATA=str(tmp_path / "file" / "data"))
    assert up.ends() != 0
    assert up.text == (
        f"callsheet: cannot write to the data folder {tmp_path}/file/data: Not a directory; set CALLSHEET_DATA\n"
    )


@pytest.mark.parametrize("broker", ["", "redis://127.0.0.1:1/1"])
def test_given_addresses_start_no_servers(start: Start, broker: str) -> None:
    """The journal's is enough: roles that are started elsewhere know no other broker than that server."""
    up = start(CALLSHEET_REDIS_URL="redis://127.0.0.1:1/0", CALLSHEET_BROKER_URL=broker)
    up.until("Callsheet is ready")
    assert "redis-" not in "".join(re.findall(r"started name=(\S+)", up.text))


def test_only_what_is_on_offer_is_there_to_try() -> None:
    assert "-F pipeline=transcribe" in _greeting(load_settings())
    assert "-F pipeline=transcribe" not in _greeting(load_settings(pipelines="words:words"))


def test_a_data_folder_with_a_long_path_works(start: Start, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    up = start(CALLSHEET_DATA=str(deep), TMPDIR=str(tmp_path))
    up.until("Callsheet is ready")
    up.signal(signal.SIGTERM)
    assert up.ends() == 0
    assert list(tmp_path.glob("callsheet-*")) == []
