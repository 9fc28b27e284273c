"""A store that counts: what the ledger says is what lies there, at the end of whatever is done to it (I19)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from callsheet.actors.errors import QuotaExceeded
from callsheet.actors.keys import new_job_id
from callsheet.actors.stores.charged import ChargedStore
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.store import BadFileError
from callsheet.actors.tenants.limits import limits_of
from callsheet.actors.tenants.names import QuotaKeys
from callsheet.actors.tenants.quota import STEP, Ledger
from callsheet.config.settings import Settings
from callsheet.pipelines.declare import OutputFile
from tests.servers import RedisServer

LIMIT = 4000


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    ledger = Ledger(redis_url, replace(limits_of(Settings()), bytes=LIMIT))
    yield ledger
    ledger.close()


@pytest.fixture
def store(ledger: Ledger, tmp_path: Path) -> ChargedStore:
    return ChargedStore(FolderStore(tmp_path / "store"), ledger)


def stored(tmp_path: Path) -> int:
    """The bytes of all jobs."""
    return sum(file.stat().st_size for file in (tmp_path / "store" / "jobs").rglob("*") if file.is_file())


def accept(store: ChargedStore, job: str, content: bytes, tenant: str = "t1") -> bool:
    upload = store.new_upload(tenant)
    try:
        upload.write(content)
        return store.accept_input(job, upload)
    finally:
        upload.discard()


def publish(store: ChargedStore, work: Path, job: str, folder: str, size: int) -> None:
    work.mkdir(exist_ok=True, parents=True)
    (work / "a.bin").write_bytes(b"x" * size)
    store.publish(job, folder, work, [OutputFile("a.bin", "application/octet-stream")])


def test_an_upload_counts_while_it_comes_and_not_when_it_is_dropped(store: ChargedStore, ledger: Ledger) -> None:
    upload = store.new_upload("t1")
    upload.write(b"x" * 100)
    assert ledger.used("t1") == 100  # there is no room for a whole step
    upload.write(b"x" * 50)
    assert ledger.used("t1") == 150
    with pytest.raises(QuotaExceeded):
        upload.write(b"x" * LIMIT)
    assert (upload.bytes, upload.path.stat().st_size) == (150, 150)
    upload.discard()
    assert ledger.used("t1") == 0


def test_where_there_is_room_an_upload_asks_once_a_step(redis_url: str, tmp_path: Path) -> None:
    ledger = Ledger(redis_url, replace(limits_of(Settings()), bytes=10 * STEP))
    store = ChargedStore(FolderStore(tmp_path / "store"), ledger)
    upload, job = store.new_upload("t1"), new_job_id()
    for _ in range(3):
        upload.write(b"x")
        assert ledger.used("t1") == STEP
    assert store.accept_input(job, upload)
    assert ledger.used("t1") == 3
    ledger.close()


def test_the_second_of_two_uploads_for_one_job_is_not_counted(store: ChargedStore, ledger: Ledger) -> None:
    job = new_job_id()
    assert accept(store, job, b"first")
    assert not accept(store, job, b"another")
    assert accept(store, job, b"first")
    assert (ledger.used("t1"), ledger.entries(job)) == (5, {"input": 5})


def test_what_cannot_be_published_is_not_counted(store: ChargedStore, ledger: Ledger, tmp_path: Path) -> None:
    job, work = new_job_id(), tmp_path / "work"
    accept(store, job, b"input")
    publish(store, work, job, "3-a", 100)
    with pytest.raises(FileExistsError):
        publish(store, work, job, "3-a", 300)
    assert ledger.entries(job) == {"input": 5, "3-a": 100}
    publish(store, work, job, "3-a", 100)
    with pytest.raises(BadFileError):
        store.publish(job, "4-a", work, [OutputFile("not-there", "text/plain")])
    with pytest.raises(QuotaExceeded):
        publish(store, work, job, "5-a", LIMIT)
    assert ledger.used("t1") == 105 == stored(tmp_path)


def test_what_is_removed_counts_no_more(store: ChargedStore, ledger: Ledger, tmp_path: Path) -> None:
    job, work = new_job_id(), tmp_path / "work"
    accept(store, job, b"input")
    for token in (3, 4, 5, 6):
        publish(store, work, job, f"{token}-a", 100)
    store.tidy(job, ["4-a"], 6)
    assert ledger.entries(job) == {"input": 5, "4-a": 100, "6-a": 100}
    for _ in range(2):
        store.withdraw(job, "6-a")
    assert ledger.used("t1") == 105 == stored(tmp_path)
    for _ in range(2):
        store.remove_job(job)
    assert (ledger.used("t1"), ledger.entries(job)) == (0, {})


def test_many_at_once_over_two_processes_end_with_what_is_stored(
    store: ChargedStore, ledger: Ledger, redis_url: str, tmp_path: Path, journal_server: RedisServer
) -> None:
    other = Ledger(redis_url, replace(limits_of(Settings()), bytes=LIMIT))
    stores = (store, ChargedStore(FolderStore(tmp_path / "store"), other))
    totals: list[int] = []

    def live(seed: int) -> None:
        chance, job = random.Random(seed), new_job_id()
        mine = stores[seed % 2]
        try:
            accept(mine, job, b"x" * chance.randrange(1, 400))
            for token in range(1, 5):
                publish(mine, tmp_path / f"work-{seed}", job, f"{token}-a", chance.randrange(1, 300))
                totals.append(mine.ledger.used("t1"))
        except QuotaExceeded:
            totals.append(LIMIT)
        except LookupError:
            assert not mine.ledger.entries(job)  # its input was refused, and the job never was
        if chance.random() < 0.6:
            mine.tidy(job, ["2-a"], 4)
        if chance.random() < 0.6:
            mine.remove_job(job)

    with ThreadPoolExecutor(8) as many:
        list(many.map(live, range(40)))
    assert LIMIT in totals, "the limit was never met"
    assert 0 <= min(totals) <= max(totals) <= LIMIT
    assert ledger.used("t1") == stored(tmp_path)
    with journal_server.client() as client:
        assert client.exists(QuotaKeys("t1").held) == 0
    other.close()
