"""What all tests share: real Redis servers, one pair per test process, empty at the start of each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from callsheet.config.redis_server import Kind
from callsheet.config.settings import Settings, SettingsError
from tests.clients.node import Node, NodeMissingError, install
from tests.servers import RedisServer, server_binary
from tests.small_disk import MountRefusedError, SmallDisk

FIXTURES = Path(__file__).parent / "fixtures"


def missing(what: str) -> None:
    """A service that is not there skips a test on a laptop and fails it in CI, where nobody reads skips."""
    if os.environ.get("CI"):
        pytest.fail(f"CI needs {what}")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """Settings of the person at the keyboard must not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("CALLSHEET_") and not name.startswith("CALLSHEET_TEST_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient_clients() -> Iterator[None]:
    """A client that is told nothing else gives up after five seconds: less than a busy machine may stall."""
    patience = httpx._config.DEFAULT_TIMEOUT_CONFIG
    before = patience.as_dict()
    for what in before:
        setattr(patience, what, 60.0)
    yield
    for what, seconds in before.items():
        setattr(patience, what, seconds)


@pytest.fixture(scope="session")
def redis_binary() -> Path:
    """The Redis server binary under test."""
    try:
        return server_binary()
    except SettingsError as error:
        missing(f"a Redis server ({error})")
        raise


@pytest.fixture(scope="session")
def journal_server(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The journal's server of this test process. Do not stop it: take `make_redis` for that."""
    with RedisServer(tmp_path_factory.mktemp("journal")) as server:
        yield server


@pytest.fixture(scope="session")
def broker_server(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The broker's server of this test process."""
    with RedisServer(tmp_path_factory.mktemp("broker"), "broker") as server:
        yield server


@pytest.fixture
def redis_url(journal_server: RedisServer) -> str:
    """The address of an empty journal Redis (`appendfsync always`, as in service)."""
    journal_server.flush()
    return journal_server.url


@pytest.fixture
def broker_url(broker_server: RedisServer) -> str:
    """The address of an empty broker Redis."""
    broker_server.flush()
    return broker_server.url


@pytest.fixture
def make_redis(redis_binary: Path, tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start servers of the test's own, to be killed, paused and restarted: `make_redis("journal")`."""
    made: list[RedisServer] = []

    def make(kind: Kind = "journal", *options: str) -> RedisServer:
        server = RedisServer(tmp_path / f"redis-{len(made)}", kind, *options)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.__exit__()


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, broker_url: str) -> Settings:
    """Settings of a role on empty servers and an empty data folder; `settings.model_copy(update=…)` varies them."""
    hosts = ("test",)  # what tests call an application that they ask without a socket
    return Settings(data=tmp_path / "data", redis_url=redis_url, broker_url=broker_url, allowed_hosts=hosts)


@pytest.fixture
def make_disk() -> Iterator[Callable[[Path, int], SmallDisk]]:
    """Small disks of the test's own: `make_disk(path, 4 << 20)`. Ask for it before whatever works on them."""
    made: list[SmallDisk] = []

    def make(path: Path, size: int) -> SmallDisk:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small disk")
        try:
            made.append(SmallDisk(path, size))
        except MountRefusedError as refused:
            missing(f"the right to mount a small disk ({refused})")
        return made[-1]

    yield make
    for disk in made:
        disk.unmount()


@pytest.fixture(scope="session")
def jfk() -> Path:
    """Eleven seconds of real speech (FLAC)."""
    return FIXTURES / "speech_jfk" / "jfk.flac"


@pytest.fixture(scope="session")
def node() -> Node:
    """Node.js with JavaScript clients from their registry."""
    try:
        return install()
    except NodeMissingError as error:
        missing(str(error))
        raise
