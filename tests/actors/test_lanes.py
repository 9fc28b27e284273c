"""Lines of what waits: within their bounds, and nobody waits for somebody else's sake."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from callsheet.actors.webhooks.lanes import Lane, Lanes

LANES = [Lane(tenant, place) for tenant in ("t1", "t2") for place in ("a:1", "b:1", "c:1")]
AT_ONCE, OF_A_TENANT, AT_A_DESTINATION, WAITING, IN_A_LANE = 4, 3, 2, 8, 3


@given(st.lists(st.tuples(st.sampled_from(["join", "start", "end"]), st.integers(0, 5)), max_size=60))
def test_whatever_comes_and_goes_the_bounds_hold_and_nobody_waits_without_a_cause(moves: list[tuple[str, int]]) -> None:
    lanes: Lanes[int] = Lanes(
        at_once=AT_ONCE,
        of_a_tenant=OF_A_TENANT,
        at_a_destination=AT_A_DESTINATION,
        waiting=WAITING,
        waiting_in_a_lane=IN_A_LANE,
    )
    running: list[Lane] = []
    lines: dict[Lane, list[int]] = {lane: [] for lane in LANES}
    for n, (move, which) in enumerate(moves):
        lane = LANES[which]
        waiting = sum(map(len, lines.values()))
        if move == "join":
            room = waiting < WAITING and len(lines[lane]) < IN_A_LANE
            assert lanes.join(lane, n) == room
            lines[lane] += [n] * room
        elif move == "end" and running:
            lanes.end(running.pop(which % len(running)))
        elif move == "start" and (started := lanes.start()):
            running.append(started[0])
            assert lines[started[0]].pop(0) == started[1], "first come, first served"
        elif move == "start":
            assert not any(_may_start(lane, running) for lane in LANES if lines[lane])
        assert (lanes.active, lanes.waiting) == (len(running), sum(map(len, lines.values())))
        assert len(running) <= AT_ONCE
        assert max(Counter(lane.tenant for lane in running).values(), default=0) <= OF_A_TENANT
        assert max(Counter(lane.destination for lane in running).values(), default=0) <= AT_A_DESTINATION


def _may_start(lane: Lane, running: list[Lane]) -> bool:
    of = sum(other.tenant == lane.tenant for other in running)
    at = sum(other.destination == lane.destination for other in running)
    return len(running) < AT_ONCE and of < OF_A_TENANT and at < AT_A_DESTINATION


def test_those_who_may_start_do_so_in_turn() -> None:
    lanes: Lanes[str] = Lanes(at_once=9, of_a_tenant=9, at_a_destination=9, waiting=9, waiting_in_a_lane=9)
    for item in ("a1", "a2", "a3"):
        lanes.join(LANES[0], item)
    lanes.join(LANES[1], "b1")
    started = [lanes.start() for _ in range(5)]
    assert [entry and entry[1] for entry in started] == ["a1", "b1", "a2", "a3", None]
