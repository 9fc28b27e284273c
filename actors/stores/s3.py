"""The store in a bucket of an S3-compatible object store: api, host and workers share nothing else.

The files of a publication are written one by one, each whole or not at all and never over another (see `s3_put`); the
success is reported after the last, so an event still means that they are all there. What a crash leaves of a
publication lies under a token that nobody will ever name, and goes when the attempt ends (`tidy`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store as Bucket

from callsheet.actors.errors import CallsheetError, CorruptRecord
from callsheet.actors.keys import JOB_ID
from callsheet.actors.stores.files import describe, staged, storage, sweep_old
from callsheet.actors.stores.media_types import BYTES, content_type, disposition
from callsheet.actors.stores.s3_errors import reaching
from callsheet.actors.stores.s3_put import MOST_BYTES, Putter
from callsheet.actors.stores.store import (
    INPUT,
    JOBS,
    BadFileError,
    Remote,
    Upload,
    file_key,
    folder_key,
    is_stale,
    job_key,
)
from callsheet.jobs.job import FileRef
from callsheet.pipelines.declare import OutputFile

if TYPE_CHECKING:
    from obstore import ObjectMeta

READ_PIECE = 256 * 1024
LONGEST_SIGNED = 7 * 86_400.0  # by the protocol
LIST_SECONDS = 900.0
AGAIN = "submitted-again"  # an empty object beside an input


@dataclass(frozen=True)
class S3Address:
    """Where a bucket is. What is None is found as the AWS tools do: in the environment, by the role of the machine."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    path_style: bool = True

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """What all keys begin with."""
        return urlsplit(self.url).path.strip("/")


class S3Store:
    """See ArtifactStore. `incoming`: where uploads are received. `patience`: seconds to try again in, on trouble.

    `list_every`: how often, in seconds, the whole bucket may be listed in search of orphans; each page costs a request.
    """

    def __init__(
        self, address: S3Address, incoming: Path, *, patience: float = 20.0, list_every: float = LIST_SECONDS
    ) -> None:
        self._s3 = _connect(address, patience)
        self._bucket = address.bucket
        self._incoming = incoming
        self._put = Putter(self._s3, address.bucket, patience).put
        self._list_every = list_every
        self._list_next = time.monotonic()
        incoming.mkdir(parents=True, exist_ok=True)

    def new_upload(self) -> Upload:
        """See ArtifactStore."""
        with storage():
            return Upload(self._incoming)

    def accept_input(self, job: str, upload: Upload) -> bool:
        """See ArtifactStore."""
        upload.finish()
        file = FileRef("source", INPUT, BYTES, upload.bytes, upload.sha256)
        target = file_key(job, INPUT, file.name)
        if not upload.path.exists():  # asked again
            return self._is_there(target, file)
        if not self._put(target, upload.path, _headers(file)):
            self._begin_anew(job)
            if not self._is_there(target, file):
                return False
        upload.discard()
        return True

    def _begin_anew(self, job: str) -> None:
        """Make the job's files young again, for `orphans`: its first submission may have come to nothing."""
        with reaching(self._bucket):
            obstore.put(self._s3, file_key(job, INPUT, AGAIN), b"")

    def publish(self, job: str, folder: str, work: Path, files: Sequence[OutputFile]) -> tuple[FileRef, ...]:
        """See ArtifactStore."""
        if not files:
            return ()
        folder_key(job, folder)
        with staged(work, files) as ready:
            refs = tuple(describe(ready / file.name, folder, file, sync=False) for file in files)
            _refuse_giants(refs)
            written: list[str] = []
            try:
                for ref in refs:
                    self._publish_one(job, ready / ref.name, ref, written)
            except BaseException:
                with contextlib.suppress(CallsheetError):  # what cannot be taken back now goes when the attempt ends
                    self._delete(written)
                raise
        return refs

    def _publish_one(self, job: str, path: Path, ref: FileRef, written: list[str]) -> None:
        target = file_key(job, ref.folder, ref.name)
        if self._put(target, path, _headers(ref)):
            written.append(target)
        elif not self._is_there(target, ref):
            raise FileExistsError(errno.EEXIST, "another publication lies there", ref.folder)

    def locate(self, job: str, file: FileRef, seconds: float) -> Remote:
        """See ArtifactStore."""
        with reaching(self._bucket):
            lasting = timedelta(seconds=min(seconds, LONGEST_SIGNED))
            url = obstore.sign(self._s3, "GET", file_key(job, file.folder, file.name), lasting)
        return Remote(url, file.bytes, file.sha256)

    async def read(
        self, job: str, file: FileRef, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See ArtifactStore."""
        target = file_key(job, file.folder, file.name)
        left = file.bytes - start if length is None else length
        with reaching(self._bucket):
            if not left:  # there is no range of nothing
                await obstore.head_async(self._s3, target)
                return
            found = await obstore.get_async(self._s3, target, options={"range": (start, start + left)})
            async for piece in found.stream(READ_PIECE):
                left -= len(piece)
                yield bytes(piece)
        if left > 0:
            raise CorruptRecord("a stored file is shorter than it was")

    def withdraw(self, job: str, folder: str) -> None:
        """See ArtifactStore."""
        self._delete(found["path"] for found in self._list(folder_key(job, folder)))

    def tidy(self, job: str, keep: Sequence[str], before: int) -> None:
        """See ArtifactStore."""
        above = job_key(job)
        folders = ((found["path"], found["path"].split("/")[2]) for found in self._list(above))
        self._delete(path for path, folder in folders if is_stale(folder, keep, before))

    def remove_job(self, job: str) -> None:
        """See ArtifactStore."""
        self._delete(found["path"] for found in self._list(job_key(job)))

    def orphans(self, older_than_seconds: float, since: float = 0.0) -> list[str]:
        """See ArtifactStore."""
        if time.monotonic() < self._list_next:
            return []
        self._list_next = time.monotonic() + self._list_every
        after, before = datetime.fromtimestamp(since, UTC), datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        changed: dict[str, datetime] = {}
        for found in self._list(JOBS):
            job = found["path"].split("/")[1]
            changed[job] = max(found["last_modified"], changed.get(job, found["last_modified"]))
        return [job for job, at in changed.items() if after <= at <= before and JOB_ID.match(job)]

    def check(self) -> None:
        """See ArtifactStore. Lists what never is: that asks for the bucket, and not for a page of its keys."""
        next(self._list("nothing"), None)

    def sweep(self, older_than_seconds: float) -> None:
        """See ArtifactStore. Nothing is ever left in the bucket: an object that is not whole does not exist."""
        sweep_old(self._incoming, older_than_seconds)

    def _is_there(self, target: str, file: FileRef) -> bool:
        """Whether exactly this file is stored under the key."""
        digest, size = hashlib.sha256(), 0
        with contextlib.suppress(FileNotFoundError), reaching(self._bucket):
            for piece in obstore.get(self._s3, target).stream(READ_PIECE):
                digest.update(piece)
                size += len(piece)
            return (size, digest.hexdigest()) == (file.bytes, file.sha256)
        return False

    def _list(self, above: str) -> Iterator[ObjectMeta]:
        with reaching(self._bucket):
            for page in obstore.list(self._s3, above):
                yield from page

    def _delete(self, keys: Iterable[str]) -> None:
        with contextlib.suppress(FileNotFoundError), reaching(self._bucket):
            if going := list(keys):
                obstore.delete(self._s3, going)


def _connect(address: S3Address, patience: float) -> Bucket:
    """The client. It reaches nothing yet."""
    endpoint, virtual = address.endpoint, not address.path_style
    if endpoint and virtual:  # the client wants it whole
        parts = urlsplit(endpoint)
        endpoint = parts._replace(netloc=f"{address.bucket}.{parts.netloc}").geturl()
    key, secret = address.credentials or (None, None)
    given = {
        "endpoint": endpoint,
        "region": address.region,
        "access_key_id": key,
        "secret_access_key": secret,
        "virtual_hosted_style_request": virtual,
    }
    return Bucket(
        address.bucket,
        prefix=address.prefix or None,
        config={name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
        client_options={
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=30),  # of silence
            "timeout": timedelta(days=1),  # of a whole transfer: a slow reader may take its time
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=patience)},
    )


def _headers(file: FileRef) -> dict[str, str]:
    """What is stored with a file, so that a browser that is sent to it is told what the API would tell."""
    return {"Content-Type": content_type(file.media_type), "Content-Disposition": disposition(file.name)}


def _refuse_giants(refs: Iterable[FileRef]) -> None:
    for ref in refs:
        if ref.bytes > MOST_BYTES:
            raise BadFileError(f"{ref.name!r} is larger than the {MOST_BYTES >> 30} GiB that an object may have")
