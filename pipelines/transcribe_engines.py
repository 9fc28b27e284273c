"""Who recognises for `transcribe`: this machine, or a paid engine; and what watchers see of it on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from callsheet.media import limits, recognise, speakers, weights
from callsheet.media.engines import remote
from callsheet.media.engines.base import Wanted
from callsheet.media.speech import Region
from callsheet.media.transcript import Transcript, Utterance, build, utterances_of
from callsheet.pipelines.common import facts_of
from callsheet.pipelines.declare import StageContext
from callsheet.pipelines.transcribe_params import TranscribeParams

SECONDS = 1.0  # between two partial results
HEARD_SHARE = 0.8  # of the stage's time, where voices are told apart after that


def check(params: TranscribeParams) -> dict[str, Any]:
    """What is recognised by whom, where that is not to be seen from the params. Raises MediaError."""
    if params.engine != "local":
        return {"engine": remote.check(params.engine, translate=params.translate)}
    recognise.check_language(params.language)
    weights.check_name(params.model)
    return {}


def local(context: StageContext) -> Transcript:
    """What this machine hears; utterances are told as they come, before it is known who speaks."""
    started, params = time.monotonic(), context.params
    share = HEARD_SHARE if params.diarize else 1.0
    regions = msgspec.json.decode(context.file("speech", "speech.json").read_bytes(), type=list[Region])
    partials = Partials(context)
    heard = recognise.recognise(
        context.file("audio", "speech.wav"),
        regions,
        weights.model_folder(params.model),
        recognise.Options(
            language=params.language,
            beam_size=params.beam_size,
            hint=params.hint,
            translate=params.translate,
            temperature=params.temperature,
            threads=limits.current().threads,
        ),
        on_progress=lambda fraction: context.progress(share * fraction),
        on_utterance=partials.add,
    )
    partials.flush()
    return build(
        _told_apart(context, heard.utterances, share) if params.diarize else heard.utterances,
        language=heard.language,
        language_probability=heard.language_probability,
        duration=facts_of(context).duration,
        model=params.model,
        processing_time=time.monotonic() - started,
        translated=params.translate,
    )


def _told_apart(context: StageContext, heard: Sequence[Utterance], begun: float) -> list[Utterance]:
    """The utterances anew, each of one speaker. `begun`: the share of the stage's time that has passed."""
    words = [word for utterance in heard for word in utterance.words]
    if not words:
        return []
    turns = speakers.turns(
        context.file("audio", "speech.wav"),
        speakers=context.params.speakers,
        threads=limits.current().threads,
        on_progress=lambda fraction: context.progress(begun + (1 - begun) * fraction, "telling speakers apart"),
    )
    return utterances_of(speakers.label(words, turns))


def bought(context: StageContext) -> Transcript:
    """What a paid engine hears. Raises ProviderError, MediaError."""
    started, params, seconds = time.monotonic(), context.params, facts_of(context).duration
    wanted = Wanted(
        wav=context.file("audio", "speech.wav"),
        seconds=seconds,
        language=params.language,
        translate=params.translate,
        hint=params.hint,
        temperature=params.temperature,
        diarize=params.diarize,
        summarize=params.summarize,
    )
    heard, model, cost = remote.hear(
        params.engine,
        wanted,
        context.folder,
        ledger=context.ledger,
        accepted_losses=params.pay_again,
        tell=context.progress,
    )
    return build(
        utterances_of(heard.words),
        language=heard.language,
        language_probability=heard.language_probability,
        duration=seconds,
        model=model,
        processing_time=time.monotonic() - started,
        translated=params.translate,
        cost=cost,
        summary=heard.summary,
    )


class Partials:
    """Hands utterances to watchers, about once a second at most."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.waiting: list[dict[str, Any]] = []
        self.sent = float("-inf")

    def add(self, utterance: Utterance) -> None:
        """Tell it now, or with the next."""
        shown = {name: getattr(utterance, name) for name in ("id", "speaker", "start", "end", "text")}
        self.waiting.append(shown)
        if time.monotonic() - self.sent >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Tell what is left."""
        if self.waiting:
            self.context.partial({"utterances": self.waiting})
            self.waiting, self.sent = [], time.monotonic()
