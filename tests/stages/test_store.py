"""The store in a folder: what every store does, and what only a folder can get wrong."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from callsheet.actors.errors import StorageFull
from callsheet.actors.stores.folder import FolderStore
from callsheet.actors.stores.store import ArtifactStore, Upload, stage_folder
from tests.stages.store_conformance import JOB, TEXT, StoreConformance


class TestFolderStore(StoreConformance):
    @pytest.fixture
    def place(self) -> str:
        return ""

    def make(self, root: Path, place: str) -> ArtifactStore:
        return FolderStore(root)

    def keys(self, store: ArtifactStore) -> list[str]:
        assert isinstance(store, FolderStore)
        return everything_in(store)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def everything_in(store: FolderStore) -> list[str]:
    root = store._jobs.parent
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_an_input_that_is_submitted_again_later_is_no_orphan(store: FolderStore) -> None:
    def submit(content: bytes) -> bool:
        upload = store.new_upload()
        upload.write(content)
        return store.accept_input(JOB, upload)

    assert submit(b"sound")
    os.utime(store.input_path(JOB).parents[1], (0, 0))
    assert store.orphans(3600) == [JOB]
    assert submit(b"sound")
    assert store.orphans(3600) == []


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
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: (full, "/dev/full"))
    with pytest.raises(StorageFull):
        Upload(tmp_path).write(b"x" * 10_000)


def test_a_stage_instance_has_a_folder_of_its_own() -> None:
    assert [stage_folder(12, "clip:3"), stage_folder(7, "probe")] == ["12-clip.3", "7-probe"]
