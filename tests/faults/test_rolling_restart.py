"""Every role restarted in turn while clients submit, read and cancel: nothing accepted is lost, and nothing is answered
5xx but 503 with `Retry-After`.

There are two of each role. A client knows both APIs, and goes to the other when one refuses the connection or hangs up
without an answer, as any load balancer does; a submission is repeated under its key.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.service import Api, Role
from tests.servers import RedisServer
from tests.waiting import eventually

CLIENTS, PAUSE = 3, 0.05
BETWEEN = 15  # submissions that are accepted before the next role is stopped
OVER = {"completed", "cancelled"}


class Service:
    """Two APIs, two hosts and two workers, each to be replaced by a new one."""

    def __init__(self, folder: Path, journal: str, broker: str) -> None:
        self._folder = folder
        self._started = 0
        self._settings = {
            "redis_url": journal,
            "broker_url": broker,
            "data": str(folder / "data"),
            "pipelines": "tests.stages.tricks:one",
            "partitions": "4",
            "lease_seconds": "2",
            "heartbeat_seconds": "0.5",
            "worker_lost_after_seconds": "8",
            "api_workers": "1",
            "cpu_concurrency": "2",
            "io_concurrency": "0",
            "log_format": "json",
        }
        self.hosts = [self._host(), self._host()]
        self.workers = [self._worker(), self._worker()]
        self.apis = [self._api(), self._api()]

    def _log(self, name: str) -> Path:
        self._started += 1
        return self._folder / f"{name}-{self._started}.log"

    def _api(self) -> Api:
        return Api(self._log("api"), **self._settings)

    def _host(self) -> Role:
        return Role("host", self._log("host"), **self._settings)

    def _worker(self) -> Role:
        return Role("worker", self._log("worker"), **self._settings)

    def wait(self) -> None:
        """Until all of them are ready."""
        for role in (*self.hosts, *self.workers):
            eventually(lambda r=role: "ready" in r.said(), 60)  # type: ignore[misc]
        for api in self.apis:
            api.wait()

    def restart(self, kind: str, number: int) -> None:
        """Replace one of them by a new one; with SIGTERM, it must end by itself and well."""
        roles: list[Any] = getattr(self, f"{kind}s")
        made = {"api": self._api, "host": self._host, "worker": self._worker}
        roles[number].stop(60)
        assert roles[number].process.returncode == 0, roles[number].said()[-2000:]
        assert "Traceback" not in roles[number].said(), roles[number].said()[-4000:]
        roles[number] = made[kind]()
        self.wait()

    def kill(self) -> None:
        for role in (*self.apis, *self.hosts, *self.workers):
            role.kill()


class Client:
    """One of those who use it. `answers`: how many of each status."""

    def __init__(self, service: Service, seed: int) -> None:
        self._service = service
        self._random = random.Random(seed)
        self._links = dict[str, httpx.Client]()
        self.accepted = dict[str, str]()  # key -> job
        self.answers = Counter[int]()
        self.wrong = list[str]()

    def work(self, stop: threading.Event) -> None:
        """Submit, read and cancel until told to stop."""
        while not stop.wait(PAUSE):
            job = self._submit()
            if job is None:
                continue
            some = self._random.choice(list(self.accepted.values()))
            self._read(job)
            self._read(some)
            if self._random.random() < 0.3:
                self._ask("POST", f"/v1/jobs/{job}/cancel", {200, 202, 409}, key=uuid.uuid4().hex)
            self._ask("GET", "/v1/jobs?limit=5", {200})

    def _submit(self) -> str | None:
        key = uuid.uuid4().hex
        trick = "chatter" if self._random.random() < 0.1 else "nothing"  # the first takes two seconds
        data = {"pipeline": "one", "params": f'{{"trick":"{trick}"}}'}
        answer = self._ask("POST", "/v1/jobs", {202}, key=key, data=data, files={"file": ("a.wav", key.encode())})
        if answer.status_code != 202:
            return None
        self.accepted[key] = answer.json()["id"]
        return self.accepted[key]

    def _read(self, job: str) -> None:
        answer = self._ask("GET", f"/v1/jobs/{job}", {200})
        if answer.status_code == 200 and answer.json()["id"] != job:
            self.wrong.append(f"{job} reads {answer.text}")

    def _ask(self, method: str, path: str, expected: set[int], key: str = "", **more: Any) -> httpx.Response:
        """The answer, of whichever API gives one; what nobody answered is asked again, and so is what was told 503."""
        latest = time.monotonic() + 60
        while (answer := self._try(method, path, {"Idempotency-Key": key} if key else {}, **more)) is None:
            assert time.monotonic() < latest, f"{method} {path} is never answered"
            time.sleep(PAUSE)
        if answer.status_code not in expected:
            self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def _try(self, method: str, path: str, headers: dict[str, str], **more: Any) -> httpx.Response | None:
        """An answer that is more than to come back later, if there is one."""
        for api in self._random.sample(self._service.apis, 2):
            link = self._links.setdefault(api.url, httpx.Client(base_url=api.url, timeout=20))
            try:
                answer = link.request(method, path, headers=headers, **more)
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                continue  # it is not there, or hangs up
            self.answers[answer.status_code] += 1
            return None if answer.status_code == 503 and "retry-after" in answer.headers else answer
        return None

    def close(self) -> None:
        for link in self._links.values():
            link.close()


@pytest.fixture
def service(make_redis: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, make_redis("journal").url, make_redis("broker").url)
    try:
        service.wait()
        yield service
    finally:
        service.kill()


@pytest.mark.timeout(300)
def test_a_rolling_restart_of_every_role_under_load(service: Service) -> None:
    stop = threading.Event()
    clients = [Client(service, seed) for seed in range(CLIENTS)]
    threads = [threading.Thread(target=client.work, args=[stop]) for client in clients]

    def accepted() -> int:
        return sum(len(client.accepted) for client in clients)

    for thread in threads:
        thread.start()
    try:
        for kind in ("host", "worker", "api"):
            for number in range(2):
                before = accepted()
                eventually(lambda n=before: accepted() >= n + BETWEEN, 60)  # type: ignore[misc]
                service.restart(kind, number)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [wrong for client in clients for wrong in client.wrong] == []
    answers = sum((client.answers for client in clients), Counter[int]())
    assert answers[200] > answers[202] > 6 * BETWEEN

    jobs = [job for client in clients for job in client.accepted.values()]
    assert len(set(jobs)) == len(jobs)
    with httpx.Client(base_url=service.apis[0].url, timeout=20) as link:
        left = set(jobs)

        def over() -> bool:
            found = {job: link.get(f"/v1/jobs/{job}").json()["status"] for job in left}
            assert "failed" not in found.values()
            left.difference_update(job for job, status in found.items() if status in OVER)
            return not left

        eventually(over, 90)
    for client in clients:
        client.close()
