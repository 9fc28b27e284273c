"""What a client may ask of `restyle`, what fits together, and how large an input each mode takes."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from callsheet.media import compose, looks, lut
from callsheet.media.errors import MediaError
from callsheet.media.limits import Limits, current
from callsheet.media.probe import MediaFacts

REMOTE_SECONDS = 30.0
REMOTE_BYTES = 250 * 1024 * 1024
PAINTED_SECONDS = 600.0  # a few frames a second are painted: ten minutes take hours
SLOW_SECONDS = 3600.0  # of what is drawn frame by frame here
BOUGHT_BYTES = 1 << 30
ROUGHLY = 5.0  # seconds by which another's video may be longer
ENCODED = 240_000  # characters of a param that holds a file: all params together may take 256 KiB

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Prompt = Annotated[str, Meta(max_length=500)]


class RestyleParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may ask of a restyling."""

    mode: Annotated[
        Literal["look", "relight", "background"],
        Meta(
            description="`look`: another look, made on this server. `relight`: another light, by paid models. "
            "`background`: another background, made on this server unless paid models are asked for."
        ),
    ] = "look"
    look: Annotated[
        Literal["teal_orange", "warm", "cool", "vivid", "noir", "lut", "cartoon", "sketch", "painting"],
        Meta(description="With `look`: a colour look, a table of your own (`lut`), a drawing, or a painting."),
    ] = "teal_orange"
    intensity: Annotated[
        Share, Meta(description="With `look`: how much of it, 0 to 1; the rest is the original picture.")
    ] = 1.0
    vignette: Annotated[Share, Meta(description="With a colour look or `lut`: how much the corners darken.")] = 0.0
    lut: (
        Annotated[
            str,
            Meta(
                max_length=ENCODED,
                description="With `lut`: the text of a `.cube` file (LUT_3D_SIZE 2 to 64; with 17 it fits as it is), "
                "or that text compressed with gzip, as base64 (with 33 and three decimals it fits).",
            ),
        ]
        | None
    ) = None
    style: Annotated[
        int, Meta(ge=0, lt=looks.STYLES, description="With `painting`: which of the 26 styles, by number.")
    ] = 19
    detail: Annotated[
        int,
        Meta(
            ge=128,
            le=1024,
            description="With `painting`: the side in pixels at which it is worked out. Time grows with its square.",
        ),
    ] = 384
    keep_colors: Annotated[bool, Meta(description="With `painting`: keep the colours of the original.")] = False
    smoothing: Annotated[
        float, Meta(ge=0.0, le=0.95, description="With `painting`: how much flicker is taken out of what stands still.")
    ] = 0.8
    background_prompt: Annotated[
        Prompt | None,
        Meta(
            description="With `relight`: the surroundings that the light comes from. With `background`: what to "
            "generate as the background, by a paid model."
        ),
    ] = None
    lighting_prompt: Annotated[Prompt | None, Meta(description="With `relight`: the light itself.")] = None
    background_color: Annotated[
        str, Meta(pattern="^#[0-9a-fA-F]{6}$", description="With `background`: a colour, `#rrggbb`.")
    ] = "#20242c"
    background_image: (
        Annotated[str, Meta(max_length=ENCODED, description="With `background`: a PNG or JPEG, as base64.")] | None
    ) = None
    background_blur: Annotated[
        float, Meta(ge=0.0, le=50.0, description="With `background`: blur of it, in thousandths of the width.")
    ] = 4.0
    edge_softness: Annotated[
        float,
        Meta(ge=0.0, le=20.0, description="With `background`: of the subject's edge, in thousandths of the width."),
    ] = 1.0
    matte: Annotated[
        Literal["people", "remote"],
        Meta(
            description="With `background`: who finds the subject. `people`: this server, which knows people only. "
            "`remote`: a paid model, which finds any subject."
        ),
    ] = "people"
    pay_again: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="How many orders whose fate is unknown, and which may have been paid, you put "
            "up with. See the error `payment_unknown`.",
        ),
    ] = 0

    def __post_init__(self) -> None:
        if self.mode == "look" and (self.look == "lut") != (self.lut is not None):
            raise ValueError("`lut` goes with the look `lut`, and only with it")
        if any(prompt and prompt.isspace() for prompt in (self.background_prompt, self.lighting_prompt)):
            raise ValueError("a prompt is blank")  # a model makes something of it all the same, and charges for it
        if self.mode == "relight" and not (self.background_prompt or self.lighting_prompt):
            raise ValueError("`relight` needs a background_prompt, a lighting_prompt, or both")
        if self.mode == "background" and self.background_prompt and self.background_image:
            raise ValueError("a background is either generated from a prompt or given as an image")

    @property
    def remote(self) -> bool:
        """Whether a paid model works on the video itself."""
        return self.mode == "relight" or (self.mode == "background" and self.matte == "remote")

    def lut_text(self) -> str:
        """The text of the table. MediaError: bad_lut."""
        given = self.lut or ""
        return _unpacked(given) if given.startswith("H4sI") else given  # what the header of gzip is in base64

    def image_bytes(self) -> bytes | None:
        """The background image, whose header is one of a PNG or JPEG. MediaError: bad_background_image."""
        if self.background_image is None:
            return None
        try:
            raw = base64.b64decode(self.background_image, validate=True)
        except (binascii.Error, ValueError):
            raise MediaError("bad_background_image", "The background image is not base64.") from None
        compose.check_picture(raw)
        return raw


def check(params: RestyleParams, facts: MediaFacts) -> None:
    """What can be known to be wrong before any work. Raises MediaError."""
    if params.mode == "look" and params.look == "lut":
        lut.parse_cube(params.lut_text())
    params.image_bytes()
    check_size(params, facts)


def check_size(params: RestyleParams, facts: MediaFacts) -> None:
    """Whether the input is short and small enough for what is asked. MediaError: media_too_long, media_too_large."""
    if params.remote and facts.bytes > REMOTE_BYTES:
        raise MediaError("media_too_large", f"The file is larger than {REMOTE_BYTES} bytes.")
    longest = _longest(params)
    if facts.duration > longest:
        raise MediaError("media_too_long", f"The file is longer than {longest:g} s, the most for what is asked.")


def _longest(params: RestyleParams) -> float:
    if params.remote:
        return REMOTE_SECONDS
    if params.mode == "look" and params.look in looks.GRADED:
        return current().max_seconds
    return PAINTED_SECONDS if params.mode == "look" and params.look == "painting" else SLOW_SECONDS


def limits_for(params: RestyleParams, *, bought: bool = False) -> Limits:
    """How large the input may be; or, with `bought`, what was made elsewhere or of it."""
    limits = msgspec.structs.replace(current(), min_seconds=0.01)
    if bought:
        return msgspec.structs.replace(limits, bytes=BOUGHT_BYTES, max_seconds=limits.max_seconds + ROUGHLY)
    return msgspec.structs.replace(limits, bytes=min(limits.bytes, REMOTE_BYTES)) if params.remote else limits


def _unpacked(given: str) -> str:
    """The text in base64 of gzip, never more of it than a table may have. MediaError: bad_lut."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(base64.b64decode(given, validate=True), lut.MAX_TEXT + 1).decode("ascii")
    except (binascii.Error, ValueError, zlib.error):
        raise MediaError("bad_lut", "The LUT cannot be used: it is no base64 of a text compressed with gzip.") from None
    return text
