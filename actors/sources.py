"""Inputs that come from an address: whether it may be used at all, and the stage that fetches it."""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from callsheet.jobs.graph import FETCH, GraphError, StageSpec, check_graph
from callsheet.media.addresses import ForbiddenUrlError, check_url
from callsheet.pipelines.fetch import pipeline as fetching


def why_forbidden(url: str, allowed: Collection[str]) -> str | None:
    """What is wrong with a URL by its form alone (`allowed`: exact `host:port` that may be anywhere), else None.

    Where its name leads is looked at when it is connected to, each time.
    """
    try:
        check_url(url, allowed)
    except ForbiddenUrlError as error:
        return error.why
    return None


def with_fetch(graph: tuple[StageSpec, ...]) -> tuple[StageSpec, ...] | None:
    """The graph of a job whose input has to be fetched first; None where it has no place for that stage."""
    rest = (stage if stage.needs else replace(stage, needs=(FETCH,)) for stage in graph)
    whole = (*fetching.specs, *rest)
    try:
        check_graph(whole)
    except GraphError:
        return None
    return whole
