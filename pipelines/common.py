"""What several recipes have in common: the facts that their first stage found, and how a warning is written."""

from __future__ import annotations

import msgspec

from callsheet.media.probe import MediaFacts
from callsheet.pipelines.declare import StageContext


def facts_of(context: StageContext) -> MediaFacts:
    """What the stage `probe` found."""
    return msgspec.convert(context.data("probe")["facts"], MediaFacts)


def warning(code: str, message: str) -> dict[str, str]:
    """Something that went otherwise than asked, and cost no more than it says."""
    return {"code": code, "message": message}
