"""What every artifact store must do: a subclass says how one is made, and these tests are run against it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from callsheet.actors.errors import CorruptRecord
from callsheet.actors.stages.shelf import Shelf
from callsheet.actors.stores.store import ArtifactStore, BadFileError, Upload, input_file
from callsheet.jobs.job import FileRef, InputRef
from callsheet.pipelines.declare import OutputFile

JOB = "0123456789abcdef" * 2
TEXT = OutputFile("words.txt", "text/plain", artifact=True)
NAMES = ["grüße (1)'.json", "100%41#c?x&y=+.txt", 'a~[x]{y}^`|<>"\\.bin', "a..b", "漢字.txt", "x" * 200]
NO_NAMES = ["../words.txt", "/etc/passwd", "", ".hidden", "a/b", "line\nbreak", "x" * 201]
ROOT = Path(__file__).parents[2]


def upload(store: ArtifactStore, content: bytes) -> Upload:
    made = store.new_upload()
    made.write(content)
    return made


def publish(store: ArtifactStore, work: Path, folder: str, **files: bytes) -> tuple[FileRef, ...]:
    for name, content in files.items():
        (work / name).write_bytes(content)
    return store.publish(JOB, folder, work, [OutputFile(name, "text/plain", artifact=True) for name in files])


def read(store: ArtifactStore, file: FileRef, start: int = 0, length: int | None = None) -> bytes:
    async def all_of_it() -> bytes:
        return b"".join([piece async for piece in store.read(JOB, file, start, length)])

    return asyncio.run(all_of_it())


def bring(store: ArtifactStore, file: FileRef, folder: Path) -> bytes:
    """What a stage gets that asks for the file."""
    return Shelf(folder).bring(store.locate(JOB, file, 60), file.name).read_bytes()


class StoreConformance:
    """The tests. `root` and `place` tell `make` where a store is: the same ones, the same store."""

    @pytest.fixture
    def place(self) -> str:
        """What a process of its own is told, to open the same store."""
        raise NotImplementedError

    def make(self, root: Path, place: str) -> ArtifactStore:
        raise NotImplementedError

    def keys(self, store: ArtifactStore) -> list[str]:
        """What is stored of jobs."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path, place: str) -> ArtifactStore:
        return self.make(tmp_path / "store", place)

    def incoming(self, tmp_path: Path) -> list[str]:
        return [p.name for p in (tmp_path / "store" / "incoming").iterdir()]

    # -- inputs

    def test_an_upload_becomes_the_input_of_its_job(self, store: ArtifactStore, tmp_path: Path) -> None:
        made = upload(store, b"some ")
        made.write(b"sound")
        assert store.accept_input(JOB, made)
        assert store.accept_input(JOB, made), "asked again"
        file = input_file(InputRef("a.wav", made.bytes, made.sha256, "audio/wav"))
        assert (file.bytes, file.sha256) == (10, hashlib.sha256(b"some sound").hexdigest())
        assert bring(store, file, tmp_path) == read(store, file) == b"some sound"
        assert (self.keys(store), self.incoming(tmp_path)) == ([f"jobs/{JOB}/input/source"], [])

    def test_an_input_is_never_replaced_and_the_same_one_is_welcome(self, store: ArtifactStore, tmp_path: Path) -> None:
        told = [store.accept_input(JOB, made) for made in (upload(store, c) for c in (b"first", b"other", b"first"))]
        assert told == [True, False, True]
        file = FileRef("source", "input", "", 5, hashlib.sha256(b"first").hexdigest())
        assert bring(store, file, tmp_path) == b"first"

    def test_of_two_inputs_at_once_one_is_taken(self, store: ArtifactStore) -> None:
        made = [upload(store, content) for content in (b"one way", b"the other")]
        told: list[bool] = []
        threads = [threading.Thread(target=lambda m=m: told.append(store.accept_input(JOB, m))) for m in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(told) == [False, True]

    def test_a_discarded_upload_leaves_nothing_and_an_accepted_one_stays(
        self, store: ArtifactStore, tmp_path: Path
    ) -> None:
        dropped, kept = store.new_upload(), upload(store, b"x")
        dropped.discard()
        store.accept_input(JOB, kept)
        kept.discard()
        assert (self.keys(store), self.incoming(tmp_path)) == ([f"jobs/{JOB}/input/source"], [])

    def test_what_crashed_uploads_left_is_swept_when_it_is_old(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.new_upload()
        store.sweep(3600)
        assert len(self.incoming(tmp_path)) == 1
        store.sweep(0)
        assert self.incoming(tmp_path) == []

    # -- publications

    def test_publishing_takes_the_named_files_only_and_tells_their_digests(
        self, store: ArtifactStore, work: Path, tmp_path: Path
    ) -> None:
        refs = store.publish(JOB, "7-transcribe", work, [TEXT])
        digest = hashlib.sha256(b"hello").hexdigest()
        assert refs == (FileRef("words.txt", "7-transcribe", "text/plain", 5, digest, artifact=True),)
        assert bring(store, refs[0], tmp_path) == read(store, refs[0]) == b"hello"
        assert self.keys(store) == [f"jobs/{JOB}/7-transcribe/words.txt"]

    def test_publishing_nothing_leaves_nothing(self, store: ArtifactStore, work: Path) -> None:
        assert (store.publish(JOB, "7-transcribe", work, []), self.keys(store)) == ((), [])

    def test_publishing_the_same_twice_is_harmless(self, store: ArtifactStore, work: Path) -> None:
        first = publish(store, work, "7-a", a=b"1", b=b"2")
        assert publish(store, work, "7-a", a=b"1", b=b"2") == first

    def test_nothing_published_is_ever_overwritten(self, store: ArtifactStore, work: Path) -> None:
        (ref,) = publish(store, work, "7-a", a=b"hello")
        with pytest.raises(FileExistsError):
            publish(store, work, "7-a", a=b"other")
        assert read(store, ref) == b"hello"

    @pytest.mark.parametrize("name", NAMES)
    def test_a_file_of_any_plain_name_is_found_again(
        self, store: ArtifactStore, work: Path, tmp_path: Path, name: str
    ) -> None:
        (ref,) = publish(store, work, "7-a", **{name: b"hello"})
        assert (self.keys(store), ref.name) == ([f"jobs/{JOB}/7-a/{name}"], name)
        assert bring(store, ref, tmp_path) == read(store, ref) == b"hello"

    @pytest.mark.parametrize("name", NO_NAMES)
    def test_a_name_that_is_not_plain_is_refused(self, store: ArtifactStore, work: Path, name: str) -> None:
        with pytest.raises(BadFileError):
            store.publish(JOB, "7-a", work, [OutputFile(name, "text/plain")])
        with pytest.raises(BadFileError):
            store.locate(JOB, FileRef(name, "7-a", "text/plain", 1, ""), 60)
        assert self.keys(store) == []

    def test_only_regular_files_are_published(self, store: ArtifactStore, work: Path) -> None:
        (work / "link").symlink_to("/etc/hostname")
        (work / "folder").mkdir()
        os.mkfifo(work / "pipe")
        for name in ("link", "folder", "pipe", "missing"):
            with pytest.raises(BadFileError):
                store.publish(JOB, "7-a", work, [OutputFile(name, "text/plain")])
        assert self.keys(store) == []

    def test_two_files_of_one_name_are_refused(self, store: ArtifactStore, work: Path) -> None:
        with pytest.raises(BadFileError):
            store.publish(JOB, "7-a", work, [TEXT, TEXT])

    @pytest.mark.parametrize("job", ["..", "0123", JOB.upper(), f"{JOB}/x", ""])
    def test_what_is_not_an_id_is_never_part_of_a_path(self, store: ArtifactStore, job: str, work: Path) -> None:
        for operation in (
            store.remove_job,
            lambda j: store.withdraw(j, "7-a"),
            lambda j: store.tidy(j, (), 9),
            lambda j: store.locate(j, FileRef("source", "input", "", 1, ""), 60),
            lambda j: store.publish(j, "7-a", work, [TEXT]),
        ):
            with pytest.raises(ValueError, match="not the id"):
                operation(job)

    @pytest.mark.parametrize("folder", ["..", "input", "0-a", "7", "7-", "7-a/b", "7-A"])
    def test_what_is_not_a_stage_folder_is_never_part_of_a_path(
        self, store: ArtifactStore, folder: str, work: Path
    ) -> None:
        for operation in (store.withdraw, lambda j, f: store.publish(j, f, work, [TEXT])):
            with pytest.raises(ValueError, match="not the folder"):
                operation(JOB, folder)

    def test_a_publication_that_a_crash_broke_off_can_be_made_again_and_is_cleared_away(
        self, store: ArtifactStore, work: Path, tmp_path: Path, place: str
    ) -> None:
        command = [sys.executable, "-m", "tests.stages.store_crash", str(tmp_path / "store"), place]
        other = tmp_path / "other"
        other.mkdir()
        done = subprocess.run([*command, str(other)], cwd=ROOT, check=False, capture_output=True, timeout=60)
        assert done.returncode == -9, done.stderr.decode()
        refs = publish(store, work, "7-a", a=b"1", b=b"2", c=b"3")
        assert [read(store, ref) for ref in refs] == [b"1", b"2", b"3"]
        (kept,) = publish(store, work, "12-b", d=b"4")
        store.tidy(JOB, ("12-b",), before=13)
        assert self.keys(store) == [f"jobs/{JOB}/12-b/{kept.name}"]

    # -- reading

    @pytest.mark.parametrize(("start", "length"), [(0, None), (0, 1), (5, 7), (999_999, 1), (999_998, None), (0, 0)])
    def test_any_part_of_a_file_can_be_read(
        self, store: ArtifactStore, work: Path, start: int, length: int | None
    ) -> None:
        content = os.urandom(1_000_000)
        (ref,) = publish(store, work, "7-a", a=content)
        end = len(content) if length is None else start + length
        assert read(store, ref, start, length) == content[start:end]

    def test_an_empty_file_can_be_published_and_read(self, store: ArtifactStore, work: Path, tmp_path: Path) -> None:
        (ref,) = publish(store, work, "7-a", a=b"")
        assert (read(store, ref), bring(store, ref, tmp_path)) == (b"", b"")

    def test_what_is_not_there_is_not_found(self, store: ArtifactStore, work: Path) -> None:
        (ref,) = publish(store, work, "7-a", a=b"hello")
        store.withdraw(JOB, "7-a")
        for length in (None, 0):
            with pytest.raises(FileNotFoundError):
                read(store, ref, 0, length)

    def test_a_file_that_is_shorter_than_its_record_is_told(self, store: ArtifactStore, work: Path) -> None:
        (ref,) = publish(store, work, "7-a", a=b"hello")
        longer = FileRef(ref.name, ref.folder, ref.media_type, 6, ref.sha256)
        with pytest.raises(CorruptRecord):
            read(store, longer)

    def test_reading_may_stop_early(self, store: ArtifactStore, work: Path) -> None:
        (ref,) = publish(store, work, "7-a", a=bytes(4_000_000))

        async def first() -> bytes:
            async with aclosing(store.read(JOB, ref)) as pieces:
                return await anext(pieces)

        assert 0 < len(asyncio.run(first())) < 4_000_000

    # -- clearing up

    def test_withdrawing_takes_exactly_one_publication(self, store: ArtifactStore, work: Path) -> None:
        publish(store, work, "7-a", a=b"1")
        publish(store, work, "77-a", a=b"2")
        store.withdraw(JOB, "7-a")
        store.withdraw(JOB, "7-a")
        assert self.keys(store) == [f"jobs/{JOB}/77-a/a"]
        store.withdraw(JOB, "77-a")
        assert store.orphans(0) == []

    def test_tidying_keeps_what_is_listed_or_later(self, store: ArtifactStore, work: Path) -> None:
        for folder in ("3-a", "5-b", "9-c", "12-b"):
            publish(store, work, folder, **{"words.txt": b"x"})
        store.accept_input(JOB, upload(store, b"x"))
        store.tidy(JOB, ("3-a",), before=12)
        store.tidy(JOB, ("3-a",), before=12)
        assert self.keys(store) == [f"jobs/{JOB}/{f}" for f in ("12-b/words.txt", "3-a/words.txt", "input/source")]

    def test_removing_a_job_leaves_nothing_of_it_and_everything_of_others(
        self, store: ArtifactStore, work: Path
    ) -> None:
        other = JOB[::-1]
        store.accept_input(other, upload(store, b"x"))
        store.accept_input(JOB, upload(store, b"x"))
        publish(store, work, "7-a", a=b"1")
        assert (sorted(store.orphans(0)), store.orphans(3600)) == ([JOB, other], [])
        assert store.orphans(0, since=time.time() + 3600) == []
        store.remove_job(JOB)
        store.remove_job(JOB)
        assert (self.keys(store), store.orphans(0)) == ([f"jobs/{other}/input/source"], [other])
