"""Writes docs/states.md from the tables: `python -m callsheet.jobs.docs`. Nothing else in this room touches a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from callsheet.jobs import effects, events, messages, states

PAGE = Path(__file__).resolve().parents[1] / "docs" / "states.md"

_HEAD = """# The states of a job, and who may change them

Generated from the tables in `jobs/states.py` by `python -m callsheet.jobs.docs`; a test keeps it fresh.

Somebody sends a *message*; the job's owner decides and writes *events*; each event leads to the next state, and
*effects* say what must happen because of it. A message that is refused changes nothing.
"""
_HEARD = """## Which message is heard in which status

A code means: refused, always. *heard* means that the rule of the message decides; it may still refuse a report whose
token is not the current one (`stale_report`), a command whose `if_match` is not the job's seq (`precondition_failed`),
a retry from a stage that does not exist (`unknown_stage`), or while ten webhooks wait for the first try of the oldest
(`webhook_under_way`), a submission whose graph cannot work (`invalid_graph`).
The same submission delivered again is not refused: it is one job, and the answer is the same.
"""


def page() -> str:
    """The whole page."""
    parts = (
        _HEAD,
        "## A job\n\n" + _diagram(_job_edges()),
        "Terminal states are final; only a retry leaves them, as a new attempt.\n",
        "## A stage\n\n" + _diagram(_stage_edges()),
        "A fan-out is `waiting` until its items are known; then its instances, each `waiting`, take its place.\n",
        _HEARD,
        _heard(),
        "## What a client may ask\n",
        _table(("status", "`allowed_actions`"), ((s, _codes(states.allowed_actions(s))) for s in states.STATUSES)),
        "## Messages\n",
        _structs(messages.MESSAGES),
        "## Events\n",
        _structs(events.BODIES.values()),
        "## Effects\n",
        _structs(effects.EFFECTS),
    )
    return "\n".join(parts)


def _job_edges() -> Iterable[tuple[str, str, str]]:
    for (before, event), after in states.TRANSITIONS.items():
        yield "[*]" if before == states.ABSENT else before, after, event.__name__
    yield "expired", "[*]", "the files are removed"


def _stage_edges() -> Iterable[tuple[str, str, str]]:
    yield "[*]", "waiting", ""
    for (before, event), after in states.STAGE_TRANSITIONS.items():
        yield before, after, event.__name__
    for (before, event), after in states.GIVEN_BACK.items():
        yield before, after, f"{event.__name__} (shutdown)"


def _diagram(edges: Iterable[tuple[str, str, str]]) -> str:
    """A mermaid state diagram, one arrow for all events that lead the same way."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, after, label in edges:
        arrows.setdefault((before, after), []).append(label)
    lines = (f"    {a} --> {b}: {', '.join(labels)}".removesuffix(": ") for (a, b), labels in arrows.items())
    return "\n".join(("```mermaid", "stateDiagram-v2", *lines, "```", ""))


def _heard() -> str:
    rows = ((m.__name__, *(_cell(states.REFUSALS[s][m]) for s in states.STATUSES)) for m in messages.MESSAGES)
    return _table(("message", *states.STATUSES), rows)


def _cell(refusal: str | None) -> str:
    return "heard" if refusal is None else f"`{refusal}`"


def _codes(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _structs(kinds: Iterable[type[Any]]) -> str:
    return _table(
        ("name", "what it says"), ((f"`{kind.__name__}`", str(kind.__doc__).partition("\n")[0]) for kind in kinds)
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
