"""A store that counts what it keeps: around any other, it charges the tenant before a file is there, and gives the
bytes back after it is gone.

So the ledger never says less than what is stored. What a crash leaves charged and not stored goes like the file would
have: a reservation by itself, a stage's folder when its attempt ends, the rest with the job.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from callsheet.actors.stores.opening import open_store
from callsheet.actors.stores.store import ArtifactStore, Place, Upload, is_stale
from callsheet.actors.tenants.limits import limits_of
from callsheet.actors.tenants.quota import Ledger
from callsheet.config.settings import Settings
from callsheet.jobs.job import FileRef
from callsheet.pipelines.declare import OutputFile


class ChargedStore:
    """See ArtifactStore. What adds bytes may also raise QuotaExceeded, and everything that counts Unavailable."""

    def __init__(self, store: ArtifactStore, ledger: Ledger) -> None:
        self._store = store
        self.ledger = ledger

    def new_upload(self, tenant: str | None = None) -> Upload:
        """Begin an upload, which counts for that tenant as it grows; None: somebody else counts it."""
        upload = self._store.new_upload()
        upload.claim = self.ledger.claim(tenant) if tenant is not None else None
        return upload

    def accept_input(self, job: str, upload: Upload) -> bool:
        """See ArtifactStore."""
        claim, upload.claim = upload.claim, None  # the bytes stay counted while the upload becomes the input
        taken = False
        try:
            taken = self._store.accept_input(job, upload)
        finally:
            if not taken:
                upload.claim = claim
        if taken and claim is not None:
            claim.settle(job, upload.bytes)
        return taken

    def publish(self, job: str, folder: str, work: Path, files: Sequence[OutputFile]) -> tuple[FileRef, ...]:
        """See ArtifactStore."""
        if not files:
            return ()
        before = self.ledger.charge(job, folder, sum(_size(work / file.name) for file in files))
        try:
            return self._store.publish(job, folder, work, files)
        except BaseException:
            self.ledger.charge(job, folder, before)
            raise

    def locate(self, job: str, file: FileRef, seconds: float) -> Place:
        """See ArtifactStore."""
        return self._store.locate(job, file, seconds)

    def read(self, job: str, file: FileRef, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See ArtifactStore."""
        return self._store.read(job, file, start, length)

    def withdraw(self, job: str, folder: str) -> None:
        """See ArtifactStore."""
        self._store.withdraw(job, folder)
        self.ledger.discharge(job, [folder])

    def tidy(self, job: str, keep: Sequence[str], before: int) -> None:
        """See ArtifactStore."""
        self._store.tidy(job, keep, before)
        self.ledger.discharge(job, [entry for entry in self.ledger.entries(job) if is_stale(entry, keep, before)])

    def remove_job(self, job: str) -> None:
        """See ArtifactStore."""
        self._store.remove_job(job)
        self.ledger.discharge(job, self.ledger.entries(job))

    def orphans(self, older_than_seconds: float, since: float = 0.0) -> list[str]:
        """See ArtifactStore."""
        return self._store.orphans(older_than_seconds, since)

    def check(self) -> None:
        """See ArtifactStore."""
        self._store.check()

    def sweep(self, older_than_seconds: float) -> None:
        """See ArtifactStore."""
        self._store.sweep(older_than_seconds)


def open_charged_store(settings: Settings, *, patience: float = 0.0) -> ChargedStore:
    """The store of these settings, with its ledger; while Redis is away it waits for `patience` seconds."""
    return ChargedStore(open_store(settings), Ledger(settings.journal, limits_of(settings), patience=patience))


def _size(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):  # one that cannot be published: the store says why
        return path.lstat().st_size
    return 0
