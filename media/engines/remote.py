"""The remote engines by name, and the way to have something recognised by one of them and pay once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from callsheet.media.engines import deepgram, openai
from callsheet.media.engines.base import Heard, Wanted
from callsheet.media.errors import MediaError
from callsheet.media.providers.base import Provider, check_configured, current
from callsheet.media.providers.buy import Tell, buy, name_of

Engine = Literal["local", "deepgram", "openai"]
ANSWER = "answer.json"


def check(engine: Engine, *, translate: bool) -> dict[str, str]:
    """Whether an engine is configured and can do it; give back what decides what it gives, beside the params.

    ProviderError: provider_not_configured. MediaError: engine_cannot_translate.
    """
    check_configured(engine, "Recognition")
    settings = current()
    if engine == "deepgram":
        if translate:
            raise MediaError("engine_cannot_translate", "Deepgram does not translate; the engines local and openai do.")
        return {"engine": engine, "model": settings.deepgram_model, "url": settings.deepgram_url}
    return {"engine": engine, "model": settings.openai_model, "url": settings.openai_url}


def hear(
    engine: Engine, wanted: Wanted, folder: Path, *, ledger: Path, accepted_losses: int, tell: Tell
) -> tuple[Heard, str, float]:
    """What the engine hears, the model that it was, and the cost in US dollars. Raises ProviderError, MediaError."""
    check(engine, translate=wanted.translate)  # again, since a retry may have changed the params after `probe`
    settings = current()
    if settings.keyless:
        raise MediaError("engine_needs_new_job", "A retry cannot turn to a paid engine: submit the file as a new job.")
    at = deepgram if engine == "deepgram" else openai
    provider: Provider = deepgram.Deepgram(settings) if engine == "deepgram" else openai.OpenAI(settings)
    order, target = at.order(wanted, settings, folder), folder / ANSWER
    with wanted.wav.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    buy(
        provider,
        order,
        target,
        ledger=ledger,
        name=name_of(f"listen_{engine}", order.model, order.arguments, digest),
        settings=settings,
        accepted_losses=accepted_losses,
        tell=tell,
    )
    return at.heard(target.read_bytes(), wanted), order.model, at.cost(wanted, settings)
