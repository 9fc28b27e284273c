"""The page of the states is what the tables say."""

from __future__ import annotations

from callsheet.jobs import docs, effects, events, messages, states


def test_the_page_is_fresh() -> None:
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run: python -m callsheet.jobs.docs"


def test_the_page_names_every_message_event_effect_status_and_code() -> None:
    page = docs.page()
    structs = (*messages.MESSAGES, *events.BODIES.values(), *effects.EFFECTS)
    codes = {code for row in states.REFUSALS.values() for code in row.values() if code}
    names = {f"`{kind.__name__}`" for kind in structs} | {f"`{code}`" for code in codes} | set(states.STATUSES)
    assert {name for name in names if name not in page} == set()


def test_every_message_event_and_effect_is_described_by_one_sentence_of_its_own() -> None:
    kinds = (*messages.MESSAGES, *events.BODIES.values(), *effects.EFFECTS)
    lines = [str(kind.__doc__).partition("\n")[0] for kind in kinds]
    assert [line for line in lines if not line.rstrip().endswith((".", ":"))] == []
    assert len(lines) == len(set(lines))
