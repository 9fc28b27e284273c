"""Named points at which a role kills itself, so that tests can crash it between any two steps. Off unless configured.

`CALLSHEET_FAILPOINTS="host.decided=3,worker.published"`: die by SIGKILL at the third decision, at the first publish.
"""

from __future__ import annotations

import os
import signal
import threading

POINTS = frozenset(
    {
        "host.read",
        "host.decided",
        "host.committed",
        "host.performed",
        "host.marked",
        "webhook.sending",
        "webhook.sent",
        "webhook.told",
        "worker.received",
        "worker.claimed",
        "worker.published",
        "worker.reported",
        "api.sending",
        "api.sent",
    }
)
_left: dict[str, int] = {}
_lock = threading.Lock()


def configure(spec: str) -> None:
    """Arm the points of a spec `name[=nth],…`. ValueError for a name that does not exist."""
    _left.clear()
    for part in filter(None, (p.strip() for p in spec.split(","))):
        name, _, nth = part.partition("=")
        if name not in POINTS:
            raise ValueError(f"no failpoint {name!r}; there are {', '.join(sorted(POINTS))}")
        _left[name] = int(nth or 1)


def failpoint(name: str) -> None:
    """Die here if this point is armed and its turn has come."""
    if name not in _left:
        return
    with _lock:
        _left[name] -= 1
        if _left[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
