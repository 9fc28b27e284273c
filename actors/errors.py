"""What can go wrong between a caller and a job's owner. Each has a permanent code."""

from __future__ import annotations


class CallsheetError(Exception):
    """Base of the errors that callers of a job see. `code` is permanent."""

    code = "internal"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Unavailable(CallsheetError):  # noqa: N818  (here and below: what a caller is told, not a kind of bug)
    """The journal's Redis cannot be reached or cannot write. Try again later."""

    code = "unavailable"


class MailboxFull(Unavailable):
    """The mailbox of this job's partition is at its bound. Try again later."""

    code = "mailbox_full"


class NoAnswer(CallsheetError):  # noqa: N818
    """The owner did not answer in time. The message is in its mailbox and will be applied: the outcome is unknown."""

    code = "no_answer"


class CorruptRecord(CallsheetError):  # noqa: N818
    """What is stored for this job cannot be read."""

    code = "corrupt_record"


class StorageFull(CallsheetError):  # noqa: N818
    """No room is left for files."""

    code = "storage_full"


class QuotaExceeded(CallsheetError):  # noqa: N818
    """The tenant would store more than it may."""

    code = "quota_exceeded"


class StoreAway(Unavailable):
    """The artifact store cannot be reached. Try again later."""

    code = "store_unavailable"


class StoreMisconfigured(StoreAway):
    """The artifact store is not set up. Its operator finds the reason in the log."""

    code = "store_misconfigured"
