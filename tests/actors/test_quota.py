"""I19: what is counted is what is held, never negative, never over the limit, also concurrently."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from callsheet.actors.errors import QuotaExceeded, Unavailable
from callsheet.actors.tenants.limits import OwnLimits, Tenants, limits_of
from callsheet.actors.tenants.names import QuotaKeys
from callsheet.actors.tenants.quota import MAX_HELD, Ledger
from callsheet.config.settings import Settings
from tests.actors.kit import everything
from tests.servers import RedisServer

JOB = "0123456789abcdef" * 2
LIMITS = replace(limits_of(Settings()), bytes=1000)


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    ledger = Ledger(redis_url, LIMITS)
    yield ledger
    ledger.close()


def test_what_is_reserved_is_used_until_it_is_released(ledger: Ledger, journal_server: RedisServer) -> None:
    ledger.reserve("t1", "upload/a", 600)
    ledger.reserve("t1", "upload/a", 700)
    ledger.reserve("t2", "upload/a", 50)
    assert (ledger.used("t1"), ledger.used("t2")) == (700, 50)
    for _ in range(2):
        ledger.release("t1", "upload/a")
    ledger.release("t2", "upload/a")
    with journal_server.client() as client:
        assert everything(client) == {}


def test_what_would_pass_the_limit_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    ledger.reserve("t1", "upload/a", 1000)
    with pytest.raises(QuotaExceeded, match="1000 of 1000"):
        ledger.reserve("t1", "upload/b", 1)
    ledger.reserve("t1", "upload/a", 999)
    ledger.reserve("t1", "upload/b", 1)
    assert ledger.used("t1") == 1000


def test_an_upload_becomes_the_input_of_a_job_however_often_it_is_said(ledger: Ledger) -> None:
    ledger.reserve("t1", "upload/a", 800)
    for _ in range(2):
        ledger.settle("t1", "upload/a", JOB, 500)
    assert (ledger.used("t1"), ledger.entries(JOB)) == (500, {"input": 500})


def test_the_entries_of_a_job_count_for_its_tenant_and_go_with_it(ledger: Ledger, journal_server: RedisServer) -> None:
    ledger.settle("t1", "upload/a", JOB, 100)
    assert [ledger.charge(JOB, "3-cut", 50), ledger.charge(JOB, "3-cut", 60)] == [0, 50]
    with pytest.raises(QuotaExceeded):
        ledger.charge(JOB, "4-cut", 841)
    assert ledger.used("t1") == 160
    ledger.discharge(JOB, ["3-cut", "never"])
    assert ledger.used("t1") == 100
    for _ in range(2):
        ledger.discharge(JOB, ledger.entries(JOB))
    with journal_server.client() as client:
        assert everything(client) == {}


def test_a_reservation_is_let_go_when_nobody_renews_it(ledger: Ledger, journal_server: RedisServer) -> None:
    ledger.reserve("t1", "upload/lost", 900, seconds=3600)
    ledger.reserve("t1", "upload/kept", 100)
    with journal_server.client() as client:
        client.zadd(QuotaKeys("t1").until, {"upload/lost": 1})  # an hour later
    ledger.reserve("t1", "upload/new", 900)
    assert ledger.used("t1") == 1000
    ledger.release("t1", "upload/lost")
    assert ledger.used("t1") == 1000


def test_a_tenant_cannot_begin_uploads_without_end(ledger: Ledger, redis_url: str, journal_server: RedisServer) -> None:
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda n: ledger.reserve("t1", f"upload/{n}", 1), range(MAX_HELD)))
    ledger.release("t1", "upload/0")
    with journal_server.client() as client:
        Tenants(client, LIMITS).set("t1", OwnLimits(bytes=5000))
    roomier = Ledger(redis_url, LIMITS)
    roomier.reserve("t1", "upload/0", 1)
    with pytest.raises(QuotaExceeded, match="in progress"):
        roomier.reserve("t1", "upload/more", 1)
    roomier.close()


def test_many_at_once_never_pass_the_limit_and_leave_nothing(ledger: Ledger, redis_url: str) -> None:
    second = Ledger(redis_url, LIMITS)  # as in another process
    seen: list[int] = []

    def upload(n: int) -> bool:
        mine = (ledger, second)[n % 2]
        try:
            mine.reserve("t1", f"upload/{n}", 100 + n)
        except QuotaExceeded:
            return False
        seen.append(mine.used("t1"))
        mine.release("t1", f"upload/{n}")
        seen.append(mine.used("t1"))
        return True

    with ThreadPoolExecutor(16) as many:
        done = list(many.map(upload, range(300)))
    second.close()
    assert any(done)
    assert 0 <= min(seen) <= max(seen) <= 1000
    assert ledger.used("t1") == 0


def test_while_redis_is_away_nothing_is_promised(make_redis: type) -> None:
    server = make_redis("journal")
    patient = Ledger(server.url, LIMITS, patience=30.0)
    hasty = Ledger(server.url, LIMITS)
    server.kill()
    with pytest.raises(Unavailable):
        hasty.reserve("t1", "upload/a", 5)
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(patient.reserve, "t1", "upload/a", 5)
        server.start()
        waiting.result(30)
    assert hasty.used("t1") == 5
    patient.close()
    hasty.close()
