"""Writing objects: each in one request, only if its key is free, checked by the server against a digest.

One `PUT` streams a file of up to 5 GiB, and leaves nothing when it breaks off. Multipart uploads take more, but with
the client library they cannot be made conditional, and one that a killed process left behind cannot be found: it is
paid for until a rule of the bucket removes it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from callsheet.actors.errors import StorageFull, StoreAway, StoreMisconfigured
from callsheet.actors.stores.s3_errors import DENIED, denied, no_bucket, reaching

MOST_BYTES = 5 << 30  # of one PUT, by the protocol
PROBE = ".callsheet"
SIGNED = timedelta(minutes=15)  # a PUT must begin within this
CODE = re.compile(r"<Code>(\w+)</Code>")


class Putter:
    """Writes objects into a bucket, by any thread."""

    def __init__(self, s3: S3Store, bucket: str, patience: float) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._patience = patience
        self._http = httpx.Client(timeout=httpx.Timeout(60.0, connect=5.0), follow_redirects=False)
        self._proven = False

    def put(self, key: str, file: Path, headers: Mapping[str, str]) -> bool:
        """Write the file, unless the key is taken: whether it was written. It is durable when this returns.

        Trouble that may pass is met by trying again for `patience` seconds. Raises StoreAway, StorageFull.
        """
        self._prove_conditions()
        md5 = _md5(file)
        for attempt in self._attempts():
            with attempt, file.open("rb") as body:
                return self._put_once(key, body, {**headers, "Content-MD5": md5})
        raise AssertionError("unreachable: attempts reraise")

    def _prove_conditions(self) -> None:
        """Once in a process: a server that ignores conditions would overwrite, silently, what must never be.

        Several threads may do it at once: none waits for another while the server is away.
        """
        if self._proven:
            return
        for attempt in self._attempts():
            with attempt:
                self._put_once(PROBE, b"", {})
                if self._put_once(PROBE, b"", {}):
                    raise StoreMisconfigured(
                        "the object store ignores `If-None-Match: *` on PUT, so it cannot keep a file from being "
                        "overwritten: take one that honours it, or a later version"
                    )
        self._proven = True

    def _attempts(self) -> Retrying:
        return Retrying(
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(0.2, max=3.0),
            retry=retry_if_exception(lambda e: isinstance(e, StoreAway) and not isinstance(e, StoreMisconfigured)),
            reraise=True,
        )

    def _put_once(self, key: str, body: object, headers: Mapping[str, str]) -> bool:
        with reaching(self._bucket):
            url = obstore.sign(self._s3, "PUT", key, SIGNED)
        with _talking():
            answer = self._http.put(url, content=body, headers={**headers, "If-None-Match": "*"})  # type: ignore[arg-type]
        return self._outcome(answer)

    def _outcome(self, answer: httpx.Response) -> bool:
        if answer.is_success:
            return True
        found = CODE.search(answer.text[:2000])
        code = found[1] if found else ""
        match answer.status_code:
            case 412:
                return False
            case 404 if code == "NoSuchBucket":
                raise no_bucket(self._bucket)
            case 501:
                raise StoreMisconfigured("the object store does not know `If-None-Match: *` on PUT: take one that does")
            case 507:
                raise StorageFull
            case status if status in (301, 307, 401, 403) or DENIED.match(code):
                raise denied(self._bucket, f"{status} {code}")
            case status:  # 409 while another writes the same key, 400 for a damaged body, 429, 5xx
                raise StoreAway(f"the object store answered a PUT with {status} {code}")


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Without the text of the client's errors: it may hold the address, which is signed."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise StoreAway(f"the object store broke off: {type(error).__name__}") from None


def _md5(file: Path) -> str:
    """What `Content-MD5` says: the server refuses a body that arrives otherwise."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return base64.b64encode(digest.digest()).decode()
