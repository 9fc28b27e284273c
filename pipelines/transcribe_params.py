"""What a client may ask of `transcribe`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from callsheet.media.engines.remote import Engine


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is really said in an utterance."""

    utterance: Annotated[int, msgspec.Meta(ge=1, description="Its id, as in transcript.json.")]
    text: Annotated[str, msgspec.Meta(max_length=5000, description="Its text; an empty one leaves it out.")]


Language = Annotated[
    str, msgspec.Meta(pattern="^[a-z]{2,3}$", description="Language spoken, ISO 639-1. Detected if absent.")
]


class TranscribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may ask of a transcription."""

    engine: Annotated[
        Engine,
        msgspec.Meta(
            description="Who recognises: this server (`local`), or a paid service where one is configured: Deepgram, "
            "or an endpoint that speaks OpenAI's protocol. A retry cannot turn from `local` to another."
        ),
    ] = "local"
    language: Language | None = None
    model: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-z0-9][a-z0-9.-]*$",
            max_length=64,
            description="With `local`, the Whisper model: base, small, large-v3 ..., or a folder of the server's "
            "models folder.",
        ),
    ] = "base"
    beam_size: Annotated[
        int, msgspec.Meta(ge=1, le=10, description="Alternatives kept while decoding. More is slower.")
    ] = 1
    hint: (
        Annotated[str, msgspec.Meta(max_length=500, description="Names and terms to expect, as a sentence.")] | None
    ) = None
    translate: Annotated[bool, msgspec.Meta(description="Write in English what is said in another language.")] = False
    temperature: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="Where decoding begins: 0 takes the likeliest words, more guesses.")
    ] = 0.0
    diarize: Annotated[
        bool,
        msgspec.Meta(description="Tell speakers apart: `local` and Deepgram do, OpenAI's protocol cannot, and warns."),
    ] = False
    speakers: (
        Annotated[
            int,
            msgspec.Meta(ge=1, le=20, description="With `local` and `diarize`: how many people speak, if it is known."),
        ]
        | None
    ) = None
    summarize: Annotated[
        bool,
        msgspec.Meta(
            description="Add a summary, if the engine writes one or a language model is configured; that "
            "adds chapters, too."
        ),
    ] = False
    pay_again: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=100,
            description="How many orders whose fate is unknown, and which may have been paid, you put up with. See the "
            "error `payment_unknown`.",
        ),
    ] = 0
    corrections: Annotated[
        tuple[Correction, ...],
        msgspec.Meta(
            max_length=5000,
            examples=[[{"utterance": 1, "text": "What was really said."}]],
            description="Utterances put right: for a retry from `artifacts`, which recognises nothing again.",
        ),
    ] = ()
    corrected_text: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=200_000,
                description="Instead: the whole text put right. Words keep their times where they match.",
            ),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        if self.corrections and self.corrected_text is not None:
            raise ValueError("a transcript is corrected by utterances, or as a whole text, not both")
        if self.speakers is not None and not (self.diarize and self.engine == "local"):
            raise ValueError("speakers is of use with the engine local and diarize only")
        if len({one.utterance for one in self.corrections}) < len(self.corrections):
            raise ValueError("an utterance is corrected once")
