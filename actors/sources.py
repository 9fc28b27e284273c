"""Addresses that clients give: whether a URL may be used at all, told before anything is done with it."""

from __future__ import annotations

from collections.abc import Collection

from callsheet.media.addresses import ForbiddenUrlError, check_url


def why_forbidden(url: str, allowed: Collection[str]) -> str | None:
    """What is wrong with a URL by its form alone (`allowed`: exact `host:port` that may be anywhere), else None.

    Where its name leads is looked at when it is connected to, each time.
    """
    try:
        check_url(url, allowed)
    except ForbiddenUrlError as error:
        return error.why
    return None
