"""`callsheet up` with tiny commands in place of Callsheet's roles: `python -m tests.house.tiny_service SCENARIO`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from callsheet import supervisor, up
from callsheet.config.logging import configure_logging
from callsheet.config.settings import Settings, SettingsError, load_settings
from callsheet.supervisor import Role
from callsheet.up import run_up

STUBBORN = "trap '' TERM; touch {0}/trapped; sleep 600 & while :; do wait; done"
MORTAL = "test -e {0}/died && exec sleep 600; sleep 601 & sleep 0.2; touch {0}/died; exit 7"


def healthy(_: Settings) -> Sequence[Role]:
    """One role behind and one in front, both content."""
    return [Role("behind", ("sleep", "600"), 1), Role("front", ("sleep", "600"), 2)]


def stubborn(settings: Settings) -> Sequence[Role]:
    """A role that ignores SIGTERM and has a child."""
    return [_stubborn(settings, 1.0), Role("front", ("sleep", "600"), 2)]


def very_stubborn(settings: Settings) -> Sequence[Role]:
    """Roles that would take all the time in the world to stop."""
    return [_stubborn(settings, 60.0), replace(_stubborn(settings, 60.0), name="mule", rank=2)]


def unhurried(settings: Settings) -> Sequence[Role]:
    """The same, and they are given it."""
    supervisor.STOP_BUDGET = 600.0
    return very_stubborn(settings)


def _stubborn(settings: Settings, grace: float) -> Role:
    trapped = settings.data / "trapped"
    return Role("stubborn", ("sh", "-c", STUBBORN.format(settings.data)), 1, grace, ready=trapped.exists)


def mortal(settings: Settings) -> Sequence[Role]:
    """A role that dies once, a moment after it started, and leaves a child behind."""
    return [Role("mortal", ("sh", "-c", MORTAL.format(settings.data)), 1)]


def broken(_: Settings) -> Sequence[Role]:
    """A role that cannot start, and one in front of it that would wait for it."""
    return [Role("broken", ("sh", "-c", "exit 3"), 1, ready=lambda: False), Role("front", ("sleep", "600"), 2)]


def mistaken(_: Settings) -> Sequence[Role]:
    """A role that says what is wrong with its settings."""
    return [Role("mistaken", ("sh", "-c", "echo callsheet: nonsense; exit 2"), 1, ready=lambda: False)]


SCENARIOS: dict[str, Callable[[Settings], Sequence[Role]]] = {
    table.__name__: table for table in (healthy, stubborn, very_stubborn, unhurried, mortal, broken, mistaken)
}

if __name__ == "__main__":
    up.LOCK_PATIENCE = 600.0  # however slow this machine is, who has it waits, and who has not does not
    try:
        settings = load_settings(log_format="console")
        configure_logging(settings, "up")
        sys.exit(run_up(settings, SCENARIOS[sys.argv[1]]))
    except SettingsError as error:
        sys.exit(f"callsheet: {error}")
