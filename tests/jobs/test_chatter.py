"""What a stage says while it runs: progress, log lines, partial results. Bounded, coalesced, counted once."""

from __future__ import annotations

import math

import msgspec
import pytest

from callsheet.jobs import events as e
from callsheet.jobs import messages as m
from callsheet.jobs.effects import SetTimer
from callsheet.jobs.evolve import evolve
from callsheet.jobs.reports import MAX_CHATTER_SEQ, MAX_LINE, MAX_LOG_LINES
from callsheet.jobs.rules import decide
from tests.jobs.kit import LINEAR, START, Play, body, types


@pytest.fixture
def play() -> Play:
    play = Play(LINEAR)
    play.claim("a")
    return play


def progress(n: int, fraction: float, message: str = "") -> m.Progress:
    return m.Progress("a", 2, n, fraction, message)


def test_progress_is_written_and_shown(play: Play) -> None:
    decision = play.tell(progress(1, 0.25, "reading"))
    assert types(decision) == ["StageProgressed"]
    assert (play.stage("a").progress, play.stage("a").message) == (0.25, "reading")


def test_every_kind_of_chatter_is_a_sign_of_life(play: Play) -> None:
    play.now += 5_000
    reports: list[m.Message] = [progress(1, 0.0), m.LogLines("a", 2, 2, ("x",)), m.Partial("a", 2, 3, {})]
    for report in reports:
        play.now += 1
        play.tell(report)
        assert play.timers["alive:a"] == SetTimer("alive:a", 2, play.now + 8_000)


def test_progress_that_hardly_moved_under_the_same_words_is_not_worth_an_event(play: Play) -> None:
    play.tell(progress(1, 0.5, "reading"))
    assert types(play.tell(progress(2, 0.5005, "reading"))) == []
    assert types(play.tell(progress(3, 0.5005, "writing"))) == ["StageProgressed"]
    assert types(play.tell(progress(4, 0.502, "writing"))) == ["StageProgressed"]


def test_progress_that_falls_shows_its_words_at_the_mark_reached_before(play: Play) -> None:
    play.tell(progress(1, 0.5, "first pass"))
    assert types(play.tell(progress(2, 0.1, "first pass"))) == []
    decision = play.tell(progress(3, 0.1, "second pass"))
    assert (body(decision, e.StageProgressed).progress, play.stage("a").message) == (0.5, "second pass")


def test_an_event_that_reports_less_progress_than_before_does_not_make_it_fall(play: Play) -> None:
    play.tell(progress(1, 0.5))
    event = e.Event(play.job.seq + 1, "StageProgressed", play.job.updated_at, 1, e.StageProgressed(0.2, "", 2), "a")
    assert evolve(play.job, event).stages["a"].progress == 0.5


@pytest.mark.parametrize(
    ("fraction", "shown"), [(math.nan, 0.5), (-math.inf, 0.5), (-3.0, 0.5), (math.inf, 1.0), (1e300, 1.0), (-0.0, 0.5)]
)
def test_a_fraction_that_is_none_is_brought_into_bounds(play: Play, fraction: float, shown: float) -> None:
    play.tell(progress(1, 0.5, "x"))
    decision = decide(play.job, progress(2, fraction, "y"), play.now)
    assert decision.job is not None
    assert decision.job.stages["a"].progress == shown


def test_a_report_delivered_again_or_out_of_order_counts_once(play: Play) -> None:
    play.tell(progress(2, 0.5))
    for report in (progress(2, 0.5), progress(1, 0.9), m.LogLines("a", 2, 2, ("x",)), m.Partial("a", 2, 1, {"x": 1})):
        assert play.tell(report).outcome.code == "stale_report"


def test_the_numbering_starts_again_with_each_dispatch(play: Play) -> None:
    play.tell(progress(9, 0.5))
    play.stop("a", "shutdown")
    play.claim("a")
    token = play.stage("a").token
    assert types(play.tell(m.Progress("a", token, 1, 0.6))) == ["StageProgressed"]


def test_a_long_message_is_cut(play: Play) -> None:
    play.tell(progress(1, 0.5, "m" * 2_000))
    assert len(play.stage("a").message) == MAX_LINE


def test_log_lines_are_cut_and_those_past_the_bound_are_dropped(play: Play) -> None:
    decision = play.tell(m.LogLines("a", 2, 1, ("x" * 2_000,) * (MAX_LOG_LINES - 1)))
    assert {len(line) for line in body(decision, e.StageLogged).lines} == {MAX_LINE}
    decision = play.tell(m.LogLines("a", 2, 2, ("last", "too many")))
    assert body(decision, e.StageLogged).lines == ("last",)
    more = play.tell(m.LogLines("a", 2, 3, ("more",)))
    assert (more.outcome.ok, more.events, play.stage("a").logged) == (True, (), MAX_LOG_LINES)


def test_the_bound_on_log_lines_is_the_stages_not_the_dispatchs(play: Play) -> None:
    play.tell(m.LogLines("a", 2, 1, ("x",) * MAX_LOG_LINES))
    play.stop("a", "shutdown")
    play.claim("a")
    assert play.tell(m.LogLines("a", play.stage("a").token, 1, ("more",))).events == ()


def test_a_partial_result_is_written(play: Play) -> None:
    assert body(play.tell(m.Partial("a", 2, 1, {"words": [1]})), e.PartialResult).partial == {"words": [1]}


def test_chatter_past_the_bound_of_the_journal_keeps_its_worker_alive_but_is_not_written(play: Play) -> None:
    full = msgspec.structs.replace(play.job, seq=MAX_CHATTER_SEQ)
    for report in (progress(1, 0.5), m.LogLines("a", 2, 1, ("x",)), m.Partial("a", 2, 1, {})):
        decision = decide(full, report, START)
        assert (decision.outcome.ok, decision.events, decision.job) == (True, (), full)
        assert decision.effects == (SetTimer("alive:a", 2, START + 8_000),)


def test_what_ends_a_stage_is_written_past_the_bound_of_the_journal(play: Play) -> None:
    full = msgspec.structs.replace(play.job, seq=MAX_CHATTER_SEQ)
    assert types(decide(full, m.Succeeded("a", 2), START)) == ["StageSucceeded", "StageDispatched"]
    assert types(decide(full, m.Cancel(), START)) == ["CancelRequested"]
    assert types(decide(full, m.Failed("a", 2, "broken", "it broke"), START)) == ["StageFailed", "JobFailed"]
