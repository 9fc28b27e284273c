"""The form of the OpenAI API, as a submission to the pipeline `transcribe`."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from callsheet.actors.stores.charged import ChargedStore
from callsheet.config.settings import Settings
from callsheet.http.fields import Fields
from callsheet.http.form import Part
from callsheet.http.intake import FormIntake
from callsheet.http.problems import Problem

PIPELINE = "transcribe"
DEFAULT_MODELS = frozenset({"whisper-1", "gpt-4o-transcribe-diarize"})  # what clients call the model that is there
SPEAKERS = "diarized_json"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json", SPEAKERS)
GRANULARITIES = ("word", "segment")
MAX_PROMPT = 500  # characters, the last ones: a recogniser looks at no more of it either
MAX_TEXT = 16 * 1024


class Wanted(msgspec.Struct):
    """What a client wants back, and how."""

    response_format: str = "json"
    granularities: tuple[str, ...] = ()
    stream: bool = False
    translate: bool = False
    temperature: float = 0.0


class AudioIntake(FormIntake):
    """A submission by the form of `/v1/audio/…`."""

    def __init__(self, settings: Settings, store: ChargedStore, fields: Fields, *, translate: bool) -> None:
        super().__init__(settings, store, fields)
        self.wanted = Wanted(translate=translate)
        self._params: dict[str, Any] = {"translate": translate}
        fields.choose(PIPELINE)
        fields.give(self._params)
        self._seen.add("pipeline")

    async def read(self, *args: Any) -> Any:
        """See Intake."""
        submission = await super().read(*args)
        if "model" not in self._seen:
            raise Problem("missing_part", "say which 'model' to use", param="model")
        if self.wanted.stream and self.wanted.response_format not in ("json", "text"):
            raise _unfit("stream", "only json and text can be streamed")
        if self.wanted.granularities and self.wanted.response_format != "verbose_json":
            raise _unfit("timestamp_granularities", "times come with response_format verbose_json only")
        if self.wanted.translate and self.wanted.response_format == SPEAKERS:
            raise _unfit("response_format", "speakers are told of transcriptions only")
        return submission

    async def _take(self, part: Part, *more: Any) -> None:
        if part.name == "file":
            return await super()._take(part, *more)
        if part.name in self._seen and not part.name.endswith("[]"):
            raise Problem("duplicate_part", f"{part.name[:100]!r} comes twice", param=part.name[:100])
        self._seen.add(part.name)
        return self._field(part.name, await part.text(MAX_TEXT))

    def _field(self, name: str, text: str) -> None:
        wanted, params = self.wanted, self._params
        match name:
            case "model":
                if text not in DEFAULT_MODELS:
                    params["model"] = text
            case "language":
                params["language"] = text or None
            case "prompt":
                params["hint"] = text[-MAX_PROMPT:] or None
            case "response_format":
                wanted.response_format = _one_of("response_format", text, FORMATS)
                params["diarize"] = text == SPEAKERS
            case "temperature":
                wanted.temperature = params["temperature"] = _temperature(text)
            case "timestamp_granularities[]" | "timestamp_granularities":
                chosen = _one_of("timestamp_granularities", text, GRANULARITIES)
                wanted.granularities = tuple(dict.fromkeys((*wanted.granularities, chosen)))
            case "stream":
                wanted.stream = _one_of("stream", text.lower(), ("true", "false")) == "true"
            case "chunking_strategy" if text == "auto":
                pass  # it is what happens anyway
            case _:
                raise Problem("unexpected_part", f"{name[:100]!r} is not available here", param=name[:100])


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise _unfit(name, f"it is one of {', '.join(choices)}")
    return text


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _unfit("temperature", "it is a number from 0 to 1")
    return value


def _unfit(param: str, detail: str) -> Problem:
    return Problem("invalid_field", f"{param}: {detail}", param=param)
