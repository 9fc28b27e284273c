"""Something that is away, told when it is noticed and when it is over, not at each try in between."""

from __future__ import annotations

import structlog

log = structlog.get_logger("actors")


class Outage:
    """Of one thing that is tried again and again by one thread."""

    def __init__(self, during: str, after: str) -> None:
        self._during = during
        self._after = after
        self._told = False

    def goes_on(self, error: Exception) -> None:
        """It is away still."""
        if not self._told:
            log.warning(self._during, why=str(error) or type(error).__name__)
        self._told = True

    def is_over(self) -> None:
        """It answers."""
        if self._told:
            log.info(self._after)
        self._told = False
