"""Real Redis servers for tests: started, stopped, killed, paused and started again on the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import redis

from callsheet.config.process import dying_with_us
from callsheet.config.redis_server import (
    Kind,
    find_server,
    remove_socket,
    server_command,
    socket_path,
    socket_url,
)

START_SECONDS = 60.0


def server_binary() -> Path:
    """The server under test: `CALLSHEET_TEST_REDIS` picks one, else what `callsheet up` would take."""
    chosen = os.environ.get("CALLSHEET_TEST_REDIS")
    return Path(chosen) if chosen else find_server()


class RedisServer:
    """A private server, configured as `callsheet up` does it (`journal`: fsync always; `broker`: keeps nothing)."""

    def __init__(self, folder: Path, kind: Kind = "journal", *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._kind: Kind = kind
        self.log = folder / "redis.log"
        self.socket = socket_path(folder, kind)
        self.url = socket_url(self.socket)
        self._command = server_command(
            server_binary(),
            kind,
            folder,
            self.socket,
            "--logfile",
            str(self.log),
            *options,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; the server must have been started."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers (a journal is loaded by then)."""
        assert self._process is None, "the server runs already"
        self._process = subprocess.Popen(dying_with_us(self._command), start_new_session=True)
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """Stop it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it as a power cut would: nothing more is written."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) it, and start it again on the same data and address."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Freeze it: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def client(self, *, decode: bool = False) -> Any:
        """A client of this server; the caller closes it. Any: see `connect` of actors/committer.py."""
        return redis.Redis.from_url(self.url, decode_responses=decode)

    def flush(self) -> None:
        """Forget all data and all loaded scripts."""
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def append_only_files(self) -> list[Path]:
        """The files of the journal's log, the one written to last at the end (Redis 6 has one, 7 a folder of them)."""
        files = [
            *self.folder.glob("appendonly.aof"),
            *self.folder.glob("appendonlydir/*.aof"),
        ]
        return sorted(files, key=lambda file: ("incr" in file.name, file.stat().st_mtime_ns))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        remove_socket(self.folder, self._kind)

    def _end(self, sig: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        process, self._process = self._process, None
        process.send_signal(sig)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            self.socket.unlink(missing_ok=True)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:
                    self._give_up_if_dead_or_late(deadline, error)
                time.sleep(0.01)

    def _give_up_if_dead_or_late(self, deadline: float, error: redis.RedisError) -> None:
        dead = self._process is None or self._process.poll() is not None
        if dead or time.monotonic() > deadline:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(it wrote no log)"
            self.__exit__()
            raise RuntimeError(f"the Redis server {'ended' if dead else 'does not answer'}: {error}\n{log}")
