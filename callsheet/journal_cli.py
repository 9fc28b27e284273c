"""What the commands share that talk to the journal's Redis, not to the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def journal() -> Iterator[Any]:
    """The journal's Redis: where the settings say, else the private one of this data folder, whether it runs or not.
    What cannot be done with it is one line and exit code 2, as for settings."""
    from callsheet.actors.committer import connect
    from callsheet.config.settings import load_settings
    from callsheet.up import running_journal

    with running_journal(load_settings()) as address, connect(address) as client, _one_line():
        yield client


@contextmanager
def _one_line() -> Iterator[None]:
    from callsheet.actors.errors import Unavailable
    from callsheet.actors.wire import unavailable
    from callsheet.config.settings import SettingsError

    try:
        with unavailable():
            yield
    except ValueError as error:
        raise SettingsError(str(error)) from None
    except Unavailable as error:
        raise SettingsError(f"{error}; is CALLSHEET_REDIS_URL right?") from None
