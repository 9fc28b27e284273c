"""What a client may ask of `shorts`, and of a single clip afterwards."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from callsheet.media.cut import LONGEST_CLIP, MAX_PIECES, SHORTEST_PIECE
from callsheet.pipelines.transcribe_params import Language

MAX_CLIPS = 15
Seconds = Annotated[float, msgspec.Meta(ge=0, le=7 * 24 * 3600)]
Format = Literal["auto", "vertical", "square", "horizontal"]
Captions = Literal["highlight", "karaoke", "pop", "boxed", "classic", "none"]


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of the source."""

    start: Annotated[Seconds, msgspec.Meta(description="Where it begins, in seconds of the source.")]
    end: Annotated[Seconds, msgspec.Meta(description="Where it ends, in seconds of the source.")]

    def __post_init__(self) -> None:
        if self.end - self.start < SHORTEST_PIECE - 1e-6:
            raise ValueError(f"a segment lasts at least {SHORTEST_PIECE:g} s")


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes to one clip. What is left out stays as it was chosen."""

    start: Annotated[Seconds, msgspec.Meta(description="New start, in seconds of the source.")] | None = None
    end: Annotated[Seconds, msgspec.Meta(description="New end, in seconds of the source.")] | None = None
    segments: (
        Annotated[
            list[Segment],
            msgspec.Meta(
                min_length=1,
                max_length=MAX_PIECES,
                description="Edit list instead of start and end: at most 12 stretches, each at least 0.5 s, joined in "
                "this order; at most 180 s together.",
            ),
        ]
        | None
    ) = None
    text: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=5000, description="What is said in the clip, corrected. Times come from the words heard."
            ),
        ]
        | None
    ) = None
    title: Annotated[str, msgspec.Meta(max_length=100, description="Another title.")] | None = None
    hook_text: (
        Annotated[str, msgspec.Meta(max_length=100, description="Another hook; an empty one shows none.")] | None
    ) = None
    captions: Annotated[Captions, msgspec.Meta(description="Another caption style.")] | None = None
    output_format: Annotated[Format, msgspec.Meta(description="Another shape.")] | None = None
    remove_silence: Annotated[bool, msgspec.Meta(description="Cut pauses out of this clip, or do not.")] | None = None

    def __post_init__(self) -> None:
        if self.segments is not None:
            if self.start is not None or self.end is not None:
                raise ValueError("an edit has segments, or start and end, not both")
            if sum(s.end - s.start for s in self.segments) > LONGEST_CLIP + 1e-6:
                raise ValueError(f"the segments last at most {LONGEST_CLIP:g} s together")
        both = self.start is not None and self.end is not None
        if both and not SHORTEST_PIECE <= (self.end or 0.0) - (self.start or 0.0) <= LONGEST_CLIP:
            raise ValueError(f"a clip lasts {SHORTEST_PIECE:g} to {LONGEST_CLIP:g} s")


ClipNumber = Annotated[str, msgspec.Meta(pattern="^(0|[1-9]|1[0-4])$")]


class ShortsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may ask of short clips."""

    target_clips: Annotated[
        int,
        msgspec.Meta(ge=1, le=MAX_CLIPS, description="How many clips. There are fewer if the material holds no more."),
    ] = 3
    clip_min_seconds: Annotated[float, msgspec.Meta(ge=5, le=175, description="Shortest clip, in seconds.")] = 15.0
    clip_max_seconds: Annotated[
        float, msgspec.Meta(ge=10, le=180, description="Longest clip, in seconds; not below clip_min_seconds.")
    ] = 60.0
    output_format: Annotated[
        Format,
        msgspec.Meta(
            description="vertical is 9:16, square 1:1, horizontal 16:9; auto: vertical, square for a square picture."
        ),
    ] = "auto"
    chooser: Annotated[
        Literal["offline", "llm"],
        msgspec.Meta(
            description="Who chooses the clips: this server's scorer, or a language model, where one is configured. "
            "A retry cannot turn from `offline` to `llm`."
        ),
    ] = "offline"
    captions: Annotated[
        Captions, msgspec.Meta(description="Style of the captions that are burned in; none for none.")
    ] = "highlight"
    hook: Annotated[bool, msgspec.Meta(description="Show a title over the first seconds.")] = True
    remove_silence: Annotated[
        bool, msgspec.Meta(description="Cut quiet pauses of 0.7 s and more out of the clips.")
    ] = False
    loudness: (
        Annotated[
            float, msgspec.Meta(ge=-30, le=-9, description="Loudness of each clip in LUFS; null leaves it as it is.")
        ]
        | None
    ) = -14.0
    language: Language | None = None
    model: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-z0-9][a-z0-9.-]*$",
            max_length=64,
            description="Whisper model: base, small, large-v3 ..., or a folder of the server's models folder.",
        ),
    ] = "base"
    hint: (
        Annotated[str, msgspec.Meta(max_length=500, description="Names and terms to expect, as a sentence.")] | None
    ) = None
    edits: Annotated[
        dict[ClipNumber, Edit],
        msgspec.Meta(
            max_length=MAX_CLIPS,
            examples=[{"2": {"start": 61.0, "end": 75.5, "captions": "karaoke"}}],
            description='Changes to clips by number, as in the stage names: {"2": {…}} with a retry from clip:2.',
        ),
    ] = {}

    def __post_init__(self) -> None:
        if self.clip_max_seconds < self.clip_min_seconds:
            raise ValueError("clip_max_seconds is less than clip_min_seconds")
