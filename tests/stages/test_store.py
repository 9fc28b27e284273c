"""The store: published whole or not at all, never overwritten, and every operation may be repeated."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from callsheet.actors import store as store_module
from callsheet.actors.errors import StorageFull
from callsheet.actors.folder_store import FolderStore
from callsheet.actors.store import BadFileError, Upload, stage_folder
from callsheet.jobs.job import FileRef
from callsheet.pipelines.declare import OutputFile

JOB = "0123456789abcdef" * 2
TEXT = OutputFile("words.txt", "text/plain", artifact=True)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "words.txt").write_text("hello")
    (folder / "scratch.tmp").write_text("not for publication")
    return folder


def everything_in(store: FolderStore) -> list[str]:
    root = store._jobs.parent
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_an_upload_becomes_the_input_of_its_job(store: FolderStore) -> None:
    upload = store.new_upload()
    upload.write(b"some ")
    upload.write(b"sound")
    store.accept_input(JOB, upload)
    store.accept_input(JOB, upload)
    assert store.input_path(JOB).read_bytes() == b"some sound"
    assert (upload.bytes, upload.sha256) == (10, hashlib.sha256(b"some sound").hexdigest())
    assert everything_in(store) == [f"jobs/{JOB}/input/source"]


def test_a_discarded_upload_leaves_nothing_and_an_accepted_one_stays(store: FolderStore) -> None:
    dropped, kept = store.new_upload(), store.new_upload()
    dropped.discard()
    store.accept_input(JOB, kept)
    kept.discard()
    assert everything_in(store) == [f"jobs/{JOB}/input/source"]


def test_publishing_takes_the_named_files_only_and_tells_their_digests(store: FolderStore, work: Path) -> None:
    refs = store.publish(JOB, "7-transcribe", work, [TEXT])
    digest = hashlib.sha256(b"hello").hexdigest()
    assert refs == (FileRef("words.txt", "7-transcribe", "text/plain", 5, digest, artifact=True),)
    assert store.path(JOB, "7-transcribe", "words.txt").read_text() == "hello"
    assert everything_in(store) == [f"jobs/{JOB}/7-transcribe/words.txt"]


def test_publishing_nothing_makes_no_folder(store: FolderStore, work: Path) -> None:
    assert store.publish(JOB, "7-transcribe", work, []) == ()
    assert everything_in(store) == []


def test_publishing_the_same_twice_is_harmless(store: FolderStore, work: Path) -> None:
    first = store.publish(JOB, "7-a", work, [TEXT])
    (work / "words.txt").write_text("hello")
    assert store.publish(JOB, "7-a", work, [TEXT]) == first


def test_nothing_published_is_ever_overwritten(store: FolderStore, work: Path) -> None:
    store.publish(JOB, "7-a", work, [TEXT])
    (work / "words.txt").write_text("other")
    with pytest.raises(FileExistsError):
        store.publish(JOB, "7-a", work, [TEXT])
    assert store.path(JOB, "7-a", "words.txt").read_text() == "hello"


@pytest.mark.parametrize("name", ["../words.txt", "/etc/passwd", "", ".hidden", "a/b", "line\nbreak", "x" * 201])
def test_a_name_that_is_not_plain_is_refused(store: FolderStore, work: Path, name: str) -> None:
    with pytest.raises(BadFileError):
        store.publish(JOB, "7-a", work, [OutputFile(name, "text/plain")])
    with pytest.raises(BadFileError):
        store.path(JOB, "7-a", name)
    assert everything_in(store) == []


def test_only_regular_files_are_published(store: FolderStore, work: Path) -> None:
    (work / "link").symlink_to("/etc/hostname")
    (work / "folder").mkdir()
    os.mkfifo(work / "pipe")
    for name in ("link", "folder", "pipe", "missing"):
        with pytest.raises(BadFileError):
            store.publish(JOB, "7-a", work, [OutputFile(name, "text/plain")])
    assert everything_in(store) == []


def test_two_files_of_one_name_are_refused(store: FolderStore, work: Path) -> None:
    with pytest.raises(BadFileError):
        store.publish(JOB, "7-a", work, [TEXT, TEXT])


@pytest.mark.parametrize("job", ["..", "0123", JOB.upper(), f"{JOB}/x", ""])
def test_what_is_not_an_id_never_becomes_a_path(store: FolderStore, job: str) -> None:
    for operation in (store.remove_job, store.input_path, lambda j: store.withdraw(j, "7-a")):
        with pytest.raises(ValueError, match="not the id"):
            operation(job)


@pytest.mark.parametrize("folder", ["..", "input", "0-a", "7", "7-", "7-a/b", "7-A"])
def test_what_is_not_a_stage_folder_never_becomes_a_path(store: FolderStore, folder: str) -> None:
    with pytest.raises(ValueError, match="not the folder"):
        store.withdraw(JOB, folder)


def test_withdrawing_takes_exactly_one_publication(store: FolderStore, work: Path) -> None:
    store.publish(JOB, "7-a", work, [TEXT])
    (work / "words.txt").write_text("later")
    store.publish(JOB, "9-a", work, [TEXT])
    store.withdraw(JOB, "7-a")
    store.withdraw(JOB, "7-a")
    assert everything_in(store) == [f"jobs/{JOB}/9-a/words.txt"]
    store.withdraw(JOB, "9-a")
    assert store.orphans(0) == []


def test_tidying_keeps_what_is_listed_or_later(store: FolderStore, work: Path) -> None:
    for folder in ("3-a", "5-b", "9-c", "12-b"):
        (work / "words.txt").write_text("x")
        store.publish(JOB, folder, work, [TEXT])
    store.accept_input(JOB, store.new_upload())
    store.tidy(JOB, ("3-a",), before=12)
    store.tidy(JOB, ("3-a",), before=12)
    assert everything_in(store) == [f"jobs/{JOB}/{f}" for f in ("12-b/words.txt", "3-a/words.txt", "input/source")]


def test_removing_a_job_leaves_nothing_of_it(store: FolderStore, work: Path) -> None:
    store.accept_input(JOB, store.new_upload())
    store.publish(JOB, "7-a", work, [TEXT])
    assert store.orphans(0) == [JOB]
    assert store.orphans(3600) == []
    store.remove_job(JOB)
    store.remove_job(JOB)
    assert everything_in(store) == store.orphans(0) == []


def test_what_crashed_uploads_left_is_swept_when_it_is_old(store: FolderStore) -> None:
    store.new_upload()
    store.sweep(3600)
    assert len(everything_in(store)) == 1
    store.sweep(0)
    assert everything_in(store) == []


def test_a_work_folder_on_another_disk_is_copied_first(
    store: FolderStore, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def other_disk(self: Path, target: Path) -> Path:
        if ".publish-" in str(self) and "jobs" in str(target):
            raise OSError(errno.EXDEV, "other disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", other_disk)
    store.publish(JOB, "7-a", work, [TEXT])
    assert everything_in(store) == [f"jobs/{JOB}/7-a/words.txt"]


def test_files_and_their_folder_are_synced_before_they_are_in_place_and_the_folder_above_after(
    store: FolderStore, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition("-")[0])
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        order.append(f"-> {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    store.publish(JOB, "7-a", work, [TEXT])
    assert order == ["-> words.txt", "words.txt", ".publish", "-> 7-a", JOB, "jobs"]


def test_a_full_disk_is_storage_full(store: FolderStore, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = store.new_upload()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        store.accept_input(JOB, upload)
    with pytest.raises(StorageFull):
        store.publish(JOB, "7-a", work, [TEXT])
    assert not store.path(JOB, "7-a", "words.txt").exists()


def test_an_upload_to_a_device_without_room_is_storage_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(store_module.tempfile, "mkstemp", lambda **_: (full, "/dev/full"))
    with pytest.raises(StorageFull):
        Upload(tmp_path).write(b"x" * 10_000)


def test_a_stage_instance_has_a_folder_of_its_own() -> None:
    assert [stage_folder(12, "clip:3"), stage_folder(7, "probe")] == ["12-clip.3", "7-probe"]
