"""A live service, shared by the tests of this folder; and APIs of a test's own beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.house.running import UNKEPT
from tests.http.contract import contract
from tests.http.service import Api, Role, Stages, served
from tests.receiver import Receiver
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Where the webhooks of the live service may go."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def addresses(redis_binary: Path, folder: Path, receiver: Receiver) -> Iterator[dict[str, str]]:
    """The settings that the roles of the live service share."""
    with RedisServer(folder / "journal") as journal, RedisServer(folder / "broker", "broker") as broker:
        yield {
            "redis_url": journal.url,
            "broker_url": broker.url,
            "data": str(folder / "data"),
            "pipelines": "tests.http.sample:pipeline",
            # What happens when nothing is heard for so long is tested elsewhere. Here a machine that stalls for some
            # seconds is to change no answer.
            "worker_lost_after_seconds": "600",
            "cancel_grace_seconds": "600",
            "lease_seconds": "30",
            "reply_timeout": "30",
            "allowed_addresses": receiver.place,
            "webhook_retry_seconds": "0.2,3600",
            "allowed_hosts": "x",  # what requests over raw sockets call it
        }


@pytest.fixture(scope="session")
def host(addresses: dict[str, str], folder: Path) -> Iterator[Role]:
    role = Role("host", folder / "host.log", **addresses)
    yield role
    role.kill()


@pytest.fixture(scope="session")
def api(addresses: dict[str, str], host: Role, folder: Path) -> Iterator[Api]:
    """The API of the live service: two workers, as in service."""
    with served(folder / "api.log", feed_ping_seconds="0.5", **addresses) as role:
        yield role
    assert "Traceback" not in role.said()


@pytest.fixture
def client(api: Api) -> Iterator[httpx.Client]:
    """A client of the live service. Whatever a test gets through it must be in the OpenAPI document."""
    hooks = {"response": [contract("tests.http.sample:pipeline").check]}
    with httpx.Client(base_url=api.url, timeout=60, event_hooks=hooks, limits=UNKEPT) as client:
        yield client


@pytest.fixture(scope="session")
def stages(addresses: dict[str, str], api: Api) -> Iterator[Stages]:
    stages = Stages(addresses["redis_url"], api.data)
    yield stages
    stages.close()


@pytest.fixture
def make_api(addresses: dict[str, str], host: Role, tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """APIs of the test's own, with other settings, on the live service's host: `make_api(api_workers="2")`."""
    made: list[Api] = []

    def make(*, path: str = "/readyz", **changes: str) -> Api:
        given = {"api_workers": "1", "data": str(tmp_path / f"data-{len(made)}")}
        role = Api(tmp_path / f"api-{len(made)}.log", **{**addresses, **given, **changes})
        made.append(role)
        role.wait(path)
        return role

    yield make
    for role in made:
        role.kill()


@pytest.fixture
def job(api: Api) -> str:
    """A job whose first stage is dispatched."""
    answer = api.submit()
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])
