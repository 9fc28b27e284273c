"""What can be wrong with media: one error type whose `code` is permanent and part of the public contract."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)


class MediaError(Exception):
    """Work on a file failed. `code` is stable, `message` is for a person and never holds a path."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


def no_room() -> MediaError:
    """The disk is full. It may not be for long."""
    return MediaError("storage_full", "There is no room for the file.", retryable=True)
