"""Waiting for a bell, with one timer for all the waits."""

from __future__ import annotations

import asyncio

from callsheet.actors.tasks import Bell, Patience

SECONDS = 0.1


def test_a_wait_that_begins_late_lasts_as_long_as_any_other() -> None:
    async def story() -> tuple[bool, bool, float]:
        loop, patience, first = asyncio.get_running_loop(), Patience(SECONDS), Bell()
        loop.call_later(SECONDS / 2, first.ring)
        rang = await patience.rings(first)
        begun = loop.time()
        return rang, await patience.rings(Bell()), loop.time() - begun

    rang, rang_again, waited = asyncio.run(story())
    assert (rang, rang_again) == (True, False)
    assert waited >= SECONDS


def test_a_bell_wakes_all_who_wait_and_whoever_comes_later_but_not_those_who_have_left() -> None:
    async def story() -> list[bool]:
        bell = Bell()
        leaving, *waiting = [asyncio.create_task(Patience(60).rings(bell)) for _ in range(3)]
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        bell.ring()
        assert leaving.cancelled()
        return [*await asyncio.gather(*waiting), await Patience(60).rings(bell)]

    assert asyncio.run(story()) == [True, True, True]
