"""The stages of `transcribe`, asked by `shorts`: the same functions, given params of their own kind."""

from __future__ import annotations

from typing import Any

from callsheet.pipelines.declare import StageContext
from callsheet.pipelines.transcribe_params import TranscribeParams

SPEECH_PARAMS = ("language", "model", "hint")


class Spoken:
    """A stage's context whose params are those of a transcription; everything else is the stage's own."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self.params = TranscribeParams(**{name: getattr(context.params, name) for name in SPEECH_PARAMS})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
