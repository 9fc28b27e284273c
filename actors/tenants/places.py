"""Who is about to open one more job of a tenant: a line in which each knows how many stand before it (lua/place.lua).

A job counts among those that are open only once its owner has written it. Until then its place here counts, so that of
fifty that come at once as many are taken as there is room for. Whoever stands in line and then looks at the jobs misses
nobody: who has left before is among these. The line lies with the broker, as the rates do, and for the same reasons.
"""

from __future__ import annotations

import secrets
from importlib.resources import files

from callsheet.actors.tenants.names import line
from callsheet.actors.tenants.rate import Counts

KEPT_SECONDS = 30  # a place of which nobody knows what became: longer than it takes to find another owner for a job
_SCRIPT = files("callsheet.actors").joinpath("lua/place.lua").read_text()


class Places(Counts):
    """The lines of all tenants, for an event loop."""

    async def take(self, tenant: str) -> tuple[str, int]:
        """Stand in line: the name of the place, and how many are before it; 0 if nobody knows."""
        name = secrets.token_hex(8)
        before = await self.ask(lambda client: client.eval(_SCRIPT, 1, line(tenant), name, KEPT_SECONDS))
        return name, before or 0

    async def give_back(self, tenant: str, name: str) -> None:
        """It is not needed any more: its job counts, or there is none."""
        await self.ask(lambda client: client.zrem(line(tenant), name))
