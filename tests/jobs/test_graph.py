"""The declaration of a pipeline: what is refused, and how long a retry waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.jobs.graph import MAX_SECONDS, MAX_STAGES, GraphError, RetryPolicy, StageSpec, check_graph
from callsheet.jobs.rules import decide
from tests.jobs.kit import GRAPHS, START, submission
from tests.jobs.strategies import of

A = StageSpec("a")
FAN = StageSpec("fan", ("a",), each="a")
REFUSED = {
    "1 to 32 stages, not 0": (),
    "1 to 32 stages, not 33": tuple(StageSpec(f"s{i}") for i in range(MAX_STAGES + 1)),
    "stage name 'A'": (StageSpec("A"),),
    "stage name 'clip:0'": (StageSpec("clip:0"),),
    "stage name ''": (StageSpec(""),),
    "stage name 'a\\\\n'": (StageSpec("a\n"),),
    "two stages are called 'a'": (A, A),
    "needs 'b', which is not declared before it": (StageSpec("a", ("b",)), StageSpec("b")),
    "needs 'a', which is not declared before it": (StageSpec("a", ("a",)),),
    "fans out over 'a' but does not need it": (A, StageSpec("fan", each="a")),
    "fans out over 'fan', which is itself a fan-out": (A, FAN, StageSpec("more", ("fan",), each="fan")),
    "0 < deadline": (StageSpec("a", deadline=0.0),),
    "deadline <= 604800": (StageSpec("a", deadline=MAX_SECONDS + 1.0),),
    "0 < weight": (StageSpec("a", weight=0.0),),
    "weight <= 1,000,000": (StageSpec("a", weight=1e300),),
    "1 to 100 tries": (StageSpec("a", retry=RetryPolicy(tries=0)),),
    "a factor of 1 to 100": (StageSpec("a", retry=RetryPolicy(factor=0.5)),),
    "a jitter of 0 to 1": (StageSpec("a", retry=RetryPolicy(jitter=1.5)),),
    "0 <= base": (StageSpec("a", retry=RetryPolicy(base=-1.0)),),
    "base <= cap": (StageSpec("a", retry=RetryPolicy(base=10.0, cap=5.0)),),
}


@pytest.mark.parametrize(("reason", "stages"), REFUSED.items(), ids=REFUSED)
def test_a_graph_that_cannot_work_is_refused_with_its_reason(reason: str, stages: tuple[StageSpec, ...]) -> None:
    with pytest.raises(GraphError, match=reason):
        check_graph(stages)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_graph_that_works_is_accepted(graph: tuple[StageSpec, ...]) -> None:
    check_graph(graph)


def test_the_largest_graph_is_accepted() -> None:
    check_graph(tuple(StageSpec(f"s{i}") for i in range(MAX_STAGES)))


def test_a_submission_with_a_graph_that_cannot_work_is_refused_and_makes_no_job() -> None:
    decision = decide(None, submission((StageSpec("a", ("b",)),)), START)
    assert (decision.outcome.ok, decision.outcome.code, decision.job) == (False, "invalid_graph", None)
    assert "needs 'b'" in decision.outcome.detail


@given(st.lists(of(StageSpec), max_size=4).map(tuple))
def test_any_graph_at_all_is_either_refused_or_starts(stages: tuple[StageSpec, ...]) -> None:
    decision = decide(None, submission(stages), START)
    assert decision.outcome.code in ("invalid_graph", "accepted")
    assert decision.outcome.ok is (decision.job is not None)


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (99, 60.0)])
def test_the_delay_doubles_up_to_its_cap(tries: int, seconds: float) -> None:
    assert RetryPolicy(base=1.0, factor=2.0, cap=60.0).delay(tries, 0.0) == seconds


@pytest.mark.parametrize(("r", "seconds"), [(0.0, 8.0), (0.5, 6.0), (0.999, 4.004)])
def test_the_jitter_shortens_the_delay_by_its_share_of_chance(r: float, seconds: float) -> None:
    assert RetryPolicy(base=8.0, jitter=0.5).delay(1, r) == pytest.approx(seconds)


@given(of(RetryPolicy), st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_the_delay_of_any_accepted_policy_lies_between_zero_and_its_cap(
    policy: RetryPolicy, tries: int, r: float
) -> None:
    try:
        policy.check()
    except GraphError:
        return
    assert 0.0 <= policy.delay(tries, r) <= policy.cap
