"""What tests of ownership and of webhooks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from callsheet.config.settings import Settings
from tests.actors.committing import Stage
from tests.actors.studio import Studio
from tests.receiver import Behaviour, Receiver
from tests.servers import RedisServer


@pytest.fixture
def studio(settings: Settings, journal_server: RedisServer) -> Iterator[Studio]:
    with journal_server.client() as client:
        studio = Studio(settings, client)
        yield studio
        studio.end()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(behave: Behaviour | None = None) -> Receiver:
        made.append(Receiver(behave))
        return made[-1]

    yield make
    for receiver in made:
        receiver.__exit__()


@pytest.fixture
def stage(redis_url: str, journal_server: RedisServer) -> Iterator[Stage]:
    with journal_server.client() as client:
        stage = Stage(redis_url, client)
        yield stage
        stage.committer.stop()
