"""The store in a bucket: what every store does, and what can go wrong between here and there."""

from __future__ import annotations

import hashlib
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import obstore
import pytest

from callsheet.actors.errors import StoreAway, StoreMisconfigured
from callsheet.actors.stages.shelf import Shelf
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.opening import open_store
from callsheet.actors.stores.s3 import S3Address, S3Store
from callsheet.actors.stores.store import ArtifactStore
from callsheet.config.settings import Settings, SettingsError
from callsheet.jobs.job import FileRef
from callsheet.pipelines.declare import OutputFile, StageError
from tests.object_store import BUCKET, KEYS, ObjectStore, Wire, open_store_at
from tests.stages.store_conformance import JOB, TEXT, StoreConformance, bring, publish, read, upload
from tests.waiting import eventually

MIB = 1 << 20
NOWHERE = "http://127.0.0.1:9"  # the port of `discard`, which nobody serves


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    made = ObjectStore(tmp_path_factory.mktemp("s3") / "log")
    try:
        yield made.wait()
    finally:
        made.stop()


@pytest.fixture
def wire(server: ObjectStore) -> Iterator[Wire]:
    made = Wire(server.port)
    yield made
    made.close()


def open_at(endpoint: str, root: Path, bucket: str = BUCKET, patience: float = 0.2) -> S3Store:
    return open_store_at(f"{endpoint} {bucket}/{uuid.uuid4().hex}", root, patience)


class TestS3Store(StoreConformance):
    @pytest.fixture
    def place(self, server: ObjectStore) -> str:
        return f"{server.url} {BUCKET}/{uuid.uuid4().hex}/below"

    def make(self, root: Path, place: str) -> ArtifactStore:
        return open_store_at(place, root)

    def keys(self, store: ArtifactStore) -> list[str]:
        assert isinstance(store, S3Store)
        return keys(store)


@pytest.fixture
def store(server: ObjectStore, tmp_path: Path) -> S3Store:
    return open_at(server.url, tmp_path)


def keys(store: S3Store) -> list[str]:
    return sorted(str(found["path"]) for page in obstore.list(store._s3, "jobs") for found in page)


def operations(store: S3Store, work: Path) -> list[Callable[[], object]]:
    """Everything that a store is asked for and that it has to ask the server for."""
    file = FileRef("words.txt", "7-a", "text/plain", 5, "")
    (work / "words.txt").write_text("hello")
    return [
        lambda: store.publish(JOB, "7-a", work, [TEXT]),
        lambda: store.accept_input(JOB, upload(store, b"x")),
        lambda: read(store, file),
        lambda: store.withdraw(JOB, "7-a"),
        lambda: store.tidy(JOB, (), 9),
        lambda: store.remove_job(JOB),
        lambda: store.orphans(0),
    ]


def test_a_missing_bucket_is_told_as_what_it_is_and_what_to_do(server: ObjectStore, tmp_path: Path, work: Path) -> None:
    store = open_at(server.url, tmp_path, bucket="no-such-bucket")
    for operation in operations(store, work):
        with pytest.raises(StoreMisconfigured, match="'no-such-bucket' does not exist: create it, or correct"):
            operation()


def test_a_server_that_is_away_is_told_as_such(tmp_path: Path, work: Path) -> None:
    store = open_at(NOWHERE, tmp_path)
    for operation in operations(store, work):
        with pytest.raises(StoreAway) as told:
            operation()
        assert told.type is StoreAway
        assert "Signature" not in str(told.value)


def test_a_connection_that_breaks_is_tried_again(wire: Wire, tmp_path: Path, work: Path) -> None:
    store = open_at(wire.url, tmp_path, patience=20)
    (first,) = publish(store, work, "7-a", a=b"hello")
    for operation in (
        lambda: publish(store, work, "9-b", b=b"other"),
        lambda: read(store, first),
        lambda: store.tidy(JOB, ("7-a",), 99),
    ):
        store._put.__self__._http._transport.close()  # type: ignore[attr-defined]  # else it goes over the wire that is open
        wire.cuts = [0, 0]
        operation()
    assert keys(store) == [f"jobs/{JOB}/7-a/a"]


def test_an_answer_that_was_lost_on_the_way_makes_no_second_file(wire: Wire, tmp_path: Path, work: Path) -> None:
    store = open_at(wire.url, tmp_path, patience=20)
    publish(store, work, "5-z", z=b"")
    store._put.__self__._http._transport.close()  # type: ignore[attr-defined]
    wire.cuts = [1]  # the server has it; the first byte of its answer is all that comes back
    (ref,) = publish(store, work, "7-a", a=b"hello")
    assert read(store, ref) == b"hello"


def test_a_download_that_breaks_off_is_begun_again(wire: Wire, tmp_path: Path, work: Path) -> None:
    store = open_at(wire.url, tmp_path)
    (ref,) = publish(store, work, "7-a", a=bytes(MIB))
    wire.cuts = [MIB // 2, MIB // 2]
    assert bring(store, ref, tmp_path) == bytes(MIB)


def test_a_download_that_always_breaks_off_fails_the_stage_for_now(wire: Wire, tmp_path: Path, work: Path) -> None:
    store = open_at(wire.url, tmp_path)
    (ref,) = publish(store, work, "7-a", a=bytes(MIB))
    wire.cuts = [MIB // 2] * 10
    with pytest.raises(StageError) as told:
        bring(store, ref, tmp_path)
    assert (told.value.code, told.value.retryable) == ("store_unavailable", True)
    assert "Signature" not in str(told.value)


def test_a_stage_never_gets_other_bytes_than_were_stored(store: S3Store, tmp_path: Path, work: Path) -> None:
    (ref,) = publish(store, work, "7-a", a=b"hello")
    obstore.put(store._s3, f"jobs/{JOB}/7-a/a", b"jello")
    with pytest.raises(StageError, match="not what was stored"):
        bring(store, ref, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == b"jello"] == []


def test_a_file_is_fetched_once_and_only_when_a_stage_asks(store: S3Store, tmp_path: Path, work: Path) -> None:
    (ref,) = publish(store, work, "7-a", a=b"hello")
    place, shelf = store.locate(JOB, ref, 60), Shelf(tmp_path)
    assert not (tmp_path / ".fetched").exists()
    path = shelf.bring(place, ref.name)
    store.remove_job(JOB)
    assert (shelf.bring(place, ref.name), path.read_bytes(), path.name) == (path, b"hello", "a")


def test_a_server_that_ignores_conditions_is_refused_before_anything_is_written(
    wire: Wire, tmp_path: Path, work: Path
) -> None:
    store = open_at(wire.url, tmp_path)
    wire.swap = (b"If-None-Match", b"X-None-Match0")
    with pytest.raises(StoreMisconfigured, match="ignores `If-None-Match"):
        publish(store, work, "7-a", a=b"hello")
    assert keys(store) == []


def test_a_publication_that_fails_takes_back_what_it_wrote(store: S3Store, work: Path) -> None:
    publish(store, work, "7-a", b=b"something else")
    with pytest.raises(FileExistsError):
        publish(store, work, "7-a", a=b"1", b=b"2")
    assert keys(store) == [f"jobs/{JOB}/7-a/b"]


def test_a_large_file_passes_through_without_being_held_in_memory(store: S3Store, work: Path) -> None:
    (work / "large").write_bytes(bytes(48 * MIB))
    tracemalloc.start()
    try:
        (ref,) = store.publish(JOB, "7-a", work, [OutputFile("large", "video/mp4")])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ref.bytes == 48 * MIB
    assert most < 8 * MIB


def test_the_server_tells_a_browser_what_the_api_would(store: S3Store, work: Path) -> None:
    refs = publish(store, work, "7-a", **{"grüße.txt": b"hello"})
    (work / "page.html").write_text("<script>")
    refs += store.publish(JOB, "9-b", work, [OutputFile("page.html", "text/html", artifact=True)])
    places = [store.locate(JOB, ref, 60) for ref in refs]
    answers = [httpx.get(place.url) for place in places]
    assert [(a.headers["content-type"], a.headers["content-disposition"]) for a in answers] == [
        ("text/plain; charset=utf-8", "attachment; filename*=UTF-8''gr%C3%BC%C3%9Fe.txt"),
        ("application/octet-stream", "attachment; filename*=UTF-8''page.html"),
    ]
    assert answers[0].content == b"hello"


def test_the_whole_bucket_is_listed_rarely(server: ObjectStore, tmp_path: Path) -> None:
    address = S3Address(f"s3://{BUCKET}/{uuid.uuid4().hex}", server.url, "us-east-1", KEYS)
    store = S3Store(address, tmp_path / "incoming")
    store.accept_input(JOB, upload(store, b"x"))
    assert [store.orphans(0), store.orphans(0)] == [[JOB], []]


def test_an_input_that_is_submitted_again_is_young_again(store: S3Store) -> None:
    def newest() -> datetime:
        return max(found["last_modified"] for found in store._list(f"jobs/{JOB}"))

    assert store.accept_input(JOB, upload(store, b"x"))
    first = newest()
    eventually(lambda: datetime.now(UTC) > first + timedelta(seconds=1))
    assert store.accept_input(JOB, upload(store, b"x"))
    assert newest() > first
    store.remove_job(JOB)
    assert keys(store) == []


def test_a_bucket_may_be_in_the_host_name(tmp_path: Path) -> None:
    address = S3Address("s3://files/a", "https://s3.example:9000", "eu-west-1", KEYS, path_style=False)
    place = S3Store(address, tmp_path).locate(JOB, FileRef("a b", "7-a", "", 1, ""), 60)
    assert place.url.startswith(f"https://files.s3.example:9000/a/jobs/{JOB}/7-a/a%20b?X-Amz-")


# -- by settings


def test_the_settings_choose_the_store(server: ObjectStore, settings: Settings, work: Path) -> None:
    assert isinstance(open_store(settings), FolderStore)
    chosen = Settings(data=settings.data, **server.settings(uuid.uuid4().hex))  # type: ignore[arg-type]
    store = open_store(chosen)
    assert isinstance(store, S3Store)
    (ref,) = publish(store, work, "7-a", a=b"hello")
    assert (ref.sha256, keys(store)) == (hashlib.sha256(b"hello").hexdigest(), [f"jobs/{JOB}/7-a/a"])
    assert KEYS[1] not in repr(chosen) + repr(store)


def test_without_the_library_a_role_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "callsheet.actors.stores.s3", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=r"pip install 'callsheet\[s3\]'"):
        open_store(settings.model_copy(update={"store_url": "s3://files"}))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"store_endpoint": "http://localhost:9000"}, "store_endpoint is set, but store_url is not"),
        ({"store_presigned_seconds": 60}, "store_presigned_seconds is set, but store_url is not"),
        ({"store_url": "s3://files", "store_access_key": "a"}, "belong together"),
        ({"store_url": "s3://files", "max_upload_bytes": "6GiB", "quota_bytes": "9GiB"}, "above the 5 GiB"),
        ({"store_url": "https://files"}, "must be of the form s3://bucket"),
        ({"store_url": "s3://files/../x"}, "must be of the form s3://bucket"),
        ({"store_url": "s3://key:secret@files"}, "must be of the form s3://bucket"),
        ({"store_url": "s3://files", "store_endpoint": "localhost:9000"}, "must be of the form https://host"),
        ({"store_url": "s3://files", "store_endpoint": "https://a:b@host"}, "must not hold a name or a password"),
        ({"store_url": "s3://files", "store_endpoint": "https://host/bucket"}, "must be of the form https://host"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings(**given)  # type: ignore[arg-type]
