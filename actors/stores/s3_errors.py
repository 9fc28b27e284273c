"""What an object store says, as our own errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from callsheet.actors.errors import StorageFull, StoreAway, StoreMisconfigured

# Status 507, and the code that MinIO gives with it.
FULL = re.compile(r"\b507\b|XMinioStorageFull|QuotaExceeded")
DENIED = re.compile(r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|AuthorizationHeaderMalformed")


@contextlib.contextmanager
def reaching(bucket: str) -> Iterator[None]:
    """Errors of the client library become StoreAway, StoreMisconfigured or StorageFull; FileNotFoundError stays one."""
    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        text = str(error)
        typed = _typed(error, text, bucket)
        if typed is None:
            raise
        raise typed from None


def _typed(error: Exception, text: str, bucket: str) -> Exception | None:
    if "NoSuchBucket" in text:
        return no_bucket(bucket)
    if isinstance(error, FileNotFoundError):
        return None
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or DENIED.search(text):
        return denied(bucket, _first_line(text))
    return StorageFull() if FULL.search(text) else StoreAway(_first_line(text))


def no_bucket(bucket: str) -> StoreMisconfigured:
    """The bucket is not there."""
    return StoreMisconfigured(f"the bucket {bucket!r} does not exist: create it, or correct CALLSHEET_STORE_URL")


def denied(bucket: str, why: str) -> StoreMisconfigured:
    """The key is wrong, or may not do this."""
    return StoreMisconfigured(
        f"the bucket {bucket!r} refuses the key: it must be allowed to list the bucket and to get, put and delete "
        f"objects, and the region must be right ({why})"
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:300]
