"""Where a job tells of its ends, as a client gives it: an address that may be told, and a secret to sign with."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from callsheet.actors.sources import why_forbidden
from callsheet.actors.webhook_secrets import WebhookSecretError, key_of
from callsheet.http.problems import Problem

MAX_URL = 2048


class Callback(msgspec.Struct, frozen=True):
    """`callback_url` and `callback_secret` of a submission, checked; both None where nobody is to be told."""

    url: str | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Callback({self.url!r})"  # a secret is in no log


def checked_callback(url: str | None, secret: str | None, allowed: Collection[str]) -> Callback:
    """The callback if its address may be told by its form, and the secret is one. Raises Problem."""
    url, secret = url or None, secret or None
    if url is None:
        if secret is not None:
            raise Problem("invalid_field", "callback_secret comes with a callback_url")
        return Callback()
    if (why := why_forbidden(url, allowed)) is not None:
        raise Problem("url_forbidden", f"callback_url: {why}")
    if secret is not None:
        try:
            key_of(secret)
        except WebhookSecretError as error:
            raise Problem("invalid_field", f"callback_secret: {error}") from None
    return Callback(url, secret)
