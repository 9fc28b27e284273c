"""`callsheet up`: everything on one machine, with Redis servers of its own where no address was given."""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from callsheet.config.process import dying_with_us
from callsheet.config.redis_server import (
    Kind,
    check_server,
    find_server,
    remove_socket,
    server_command,
    socket_path,
    socket_url,
)
from callsheet.config.settings import Settings, SettingsError, environment
from callsheet.supervisor import Role, Supervisor

REDIS, HOST, WORKERS, API = range(4)  # ranks: each starts after those it needs, and stops before them
REDIS_GRACE, HOST_GRACE, WORKER_GRACE, API_GRACE = 3.0, 5.0, 4.0, 5.0  # seconds to stop in, when others leave them
LOCK_PATIENCE = 5.0  # how long the children of a killed predecessor may take to die
LOAD_PATIENCE = 300.0  # how long a journal may take to load
SAMPLE = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "speech_jfk" / "jfk.flac"  # in a checkout
TRANSCRIBE = "callsheet.pipelines.transcribe:pipeline"  # it may not be on offer

RoleTable = Callable[[Settings], Sequence[Role]]


def run_up(settings: Settings, service: RoleTable | None = None) -> int:
    """Run everything until a signal says stop. The exit code; 2 and one line for what is wrong with the machine."""
    _make_data_folder(settings.data)
    with _only_one(settings.data) as lock:
        if why := why_not_free(settings):
            raise SettingsError(f"{settings.address} {why}; set CALLSHEET_PORT to another port")
        greeting = _greeting(settings)
        redis, settings = embedded_redis(settings, lock)
        roles = [*redis, *(service or callsheet_roles)(settings)]
        try:
            return Supervisor(roles, on_ready=lambda: _say(greeting)).run()
        finally:
            for kind in ("journal", "broker"):
                remove_socket(redis_folder(settings, kind), kind)


def callsheet_roles(settings: Settings) -> list[Role]:
    """The roles of Callsheet itself: host, one worker for each kind of work, API."""
    env = environment(
        data=str(settings.data),
        port=str(settings.port),
        redis_url=settings.journal,
        broker_url=settings.broker,
        graceful_seconds=str(min(settings.graceful_seconds, 3.0)),
        log_format=settings.log_format,
    )
    # -P: whatever lies in the folder we were started in must not shadow a module.
    command = (sys.executable, "-P", "-m", "callsheet")
    slots = {"cpu": settings.cpu_concurrency, "io": settings.io_concurrency, "gpu": settings.gpu_concurrency}
    workers = [
        Role(f"worker-{queue}", (*command, "worker", "--queue", queue), WORKERS, WORKER_GRACE, env)
        for queue, wanted in slots.items()
        if wanted
    ]
    return [
        Role("host", (*command, "host"), HOST, HOST_GRACE, env),
        *workers,
        Role("api", (*command, "api"), API, API_GRACE, env, ready=lambda: is_ready(settings)),
    ]


def embedded_redis(settings: Settings, lock: int) -> tuple[list[Role], Settings]:
    """The servers to start for addresses that were not given, and the settings with their addresses.

    They hold the lock on the data folder, too: nobody starts a second server on files that are still written.
    """
    wanted: list[Kind] = [kind for kind in ("journal", "broker") if address_of(settings, kind) is None]
    roles, found = [], {}
    for kind in wanted:
        role, url = _redis_role(kind, redis_folder(settings, kind), lock)
        roles.append(role)
        found["redis_url" if kind == "journal" else "broker_url"] = url
    return roles, settings.model_copy(update=found)


def journal_address(settings: Settings) -> str:
    """The journal's Redis: where the settings say, else the one that we run on this data folder."""
    return settings.redis_url or socket_url(socket_path(redis_folder(settings, "journal"), "journal"))


@contextmanager
def running_journal(settings: Settings) -> Iterator[str]:
    """The address of a journal that runs. Ours does so only for this while, if `callsheet up` does not run."""
    url = journal_address(settings)
    if settings.redis_url or answers(url):
        yield url
        return
    _make_data_folder(settings.data)
    with _only_one(settings.data) as lock:
        role, url = _redis_role("journal", redis_folder(settings, "journal"), lock)
        with subprocess.Popen(
            dying_with_us(list(role.command)), stdin=subprocess.DEVNULL, pass_fds=role.keeps
        ) as server:
            deadline = time.monotonic() + LOAD_PATIENCE
            try:
                while not role.ready():
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise SettingsError(f"the private Redis does not start; see {role.logfile}")
                    time.sleep(0.02)
                yield url
            finally:
                server.terminate()
        remove_socket(redis_folder(settings, "journal"), "journal")


def redis_folder(settings: Settings, kind: Kind) -> Path:
    """Where an embedded server keeps its files."""
    return settings.data / "redis" / kind


def address_of(settings: Settings, kind: Kind) -> str | None:
    """Where that server is, as the settings say it or have it follow; None if it is ours to start."""
    if kind == "journal":
        return settings.redis_url
    return settings.broker if settings.redis_url else settings.broker_url


def _redis_role(kind: Kind, folder: Path, lock: int) -> tuple[Role, str]:
    folder.mkdir(parents=True, exist_ok=True)
    binary = find_server()
    check_server(binary, folder)
    socket_file, logfile = socket_path(folder, kind), folder / "redis.log"
    command = server_command(binary, kind, folder, socket_file, "--logfile", str(logfile))
    url = socket_url(socket_file)
    role = Role(
        f"redis-{kind}", command, REDIS, REDIS_GRACE, ready=lambda: answers(url), keeps=(lock,), logfile=logfile
    )
    return role, url


def answers(url: str) -> bool:
    """Whether the embedded server at this address has loaded its data and answers."""
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.settimeout(1.0)
        client.connect(unquote(urlsplit(url).path))
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")
    return False


def is_ready(settings: Settings) -> bool:
    """Whether the API says that everything it needs is there."""
    connection = http.client.HTTPConnection(settings.bind, settings.port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _greeting(settings: Settings) -> str:
    """Where it is and what to try, in words that work in any other terminal, whatever its folder."""
    url = f"http://{settings.address}"
    key, how = "", ""
    if settings.needs_keys:
        command = shlex.quote(str(Path(sys.executable).with_name("callsheet")))
        where = "" if settings.redis_url else f"CALLSHEET_DATA={shlex.quote(str(settings.data))} "
        key, how = ' -H "X-API-Key: …"', f"Keys:    {where}{command} keys create --tenant NAME\n"
    file = shlex.quote(f"file=@{SAMPLE}") if SAMPLE.exists() else "file=@talk.mp3"
    command = f"curl{key} -F {file} -F pipeline=transcribe {url}/v1/jobs"
    tried = f"Try it:  {command}\n" if TRANSCRIBE in settings.pipelines else ""
    return (
        f"\nCallsheet is ready: {url}\n{how}{tried}"
        f"Browser: {url}/try\nRead on: {url}/docs\n"
        "Ctrl-C stops everything.\n\n"
    )


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _make_data_folder(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingsError(f"cannot write to the data folder {data}: {error.strerror}; set CALLSHEET_DATA") from None


@contextmanager
def _only_one(data: Path) -> Iterator[int]:
    """Hold the lock of the data folder: its file descriptor. What we start may keep it locked a little longer."""
    lock = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _locked(lock):
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
            if _lives(holder) or time.monotonic() > deadline:
                raise SettingsError(f"another `callsheet up` (process {holder}) uses the data folder {data}")
            time.sleep(0.05)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def why_not_free(settings: Settings) -> str | None:
    """Why the API cannot listen where the settings say; None if it can."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind, settings.port))
        except OSError as error:
            return "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    return None
