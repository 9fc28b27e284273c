"""The paid steps of `restyle`: what is ordered, from whom, and under which name it is bought only once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from callsheet.media import compose, ffmpeg, frames
from callsheet.media.errors import MediaError
from callsheet.media.probe import MediaFacts
from callsheet.media.providers.base import Order, Provider, check_configured, current
from callsheet.media.providers.buy import PROVIDERS, buy, name_of
from callsheet.media.providers.web import bad_answer
from callsheet.pipelines.declare import OutputFile, StageContext, StageError, StageOutput
from callsheet.pipelines.restyle_params import BOUGHT_BYTES, RestyleParams

PICTURE, VIDEO = "reference.img", "video.mp4"
MOST_FRAMES = 241  # that the relighting model takes
SIDE = 1280  # pixels, the longer one of what is sent: the models work at 720 lines at most
ASPECTS = {"1:1": 1.0, "4:3": 4 / 3, "3:4": 3 / 4, "16:9": 16 / 9, "9:16": 9 / 16}
KEEP = "Keep every person and object exactly where and as they are; change nothing but the light and the surroundings."


def check(params: RestyleParams) -> None:
    """Whether all providers that are needed are configured. ProviderError: provider_not_configured."""
    if params.mode == "relight":
        check_configured("gemini", "Relighting")
        check_configured("fal", "Relighting")
    if params.mode == "background":
        if params.background_prompt:
            check_configured("gemini", "Generating a background")
        if params.matte == "remote":
            check_configured("fal", "A matte of any subject")


def reference(context: StageContext, facts: MediaFacts) -> StageOutput:
    """The first frame relit, or a generated background; nothing where none is asked for."""
    params, settings = context.params, current()
    if params.mode == "relight":
        prompt = " ".join(filter(None, [_sentence("Light", params.lighting_prompt), _surroundings(params), KEEP]))
        frame = context.folder / "frame.jpg"
        compose.save_first(frames.first_picture(context.input.path, facts), frame)
        order = Order(
            settings.gemini_model, {"prompt": f"Relight this photo. {prompt}"}, {"image": (frame, "image/jpeg")}
        )
    elif params.mode == "background" and params.background_prompt:
        prompt = f"An empty background for a video, without people or text: {params.background_prompt}"
        order = Order(settings.gemini_model, {"prompt": prompt, "aspect": _aspect(context, facts)})
    else:
        return StageOutput()
    what = (order.model, order.arguments, _digest(context.input.path) if order.files else "")
    _buy(context, "gemini", order, context.folder / PICTURE, name_of("reference", *what))
    try:  # what cannot be read is no reference: say so before the next bill
        compose.read_picture(context.folder / PICTURE)
    except MediaError:
        raise bad_answer("its picture is no PNG or JPEG that can be read") from None
    return StageOutput(files=(OutputFile(PICTURE, "application/octet-stream"),))


def video(context: StageContext, facts: MediaFacts) -> StageOutput:
    """The video in the light of the reference, or its matte; nothing where none is asked for."""
    params, settings = context.params, current()
    if not params.remote:
        return StageOutput()
    clip, source = context.folder / "clip.mp4", _digest(context.input.path)
    if params.mode == "relight":
        picture = bought(context, "reference", PICTURE)
        count = _small_copy(context, facts, clip, MOST_FRAMES)
        prompt = " ".join(filter(None, [_sentence("Light", params.lighting_prompt), _surroundings(params)]))
        order = Order(
            settings.fal_relight_model,
            {"prompt": prompt, "num_frames": count},
            {"video_url": (clip, "video/mp4"), "image_url": (picture, _media_type(picture))},
            answer="video",
            limit=BOUGHT_BYTES,
        )
        what: tuple[object, ...] = (order.model, prompt, source, _digest(picture))
    else:
        _small_copy(context, facts, clip)
        files = {"video_url": (clip, "video/mp4")}
        arguments = {"output_mask": True, "video_output_type": "X264 (.mp4)"}
        order = Order(settings.fal_matte_model, arguments, files, answer="mask_video", limit=BOUGHT_BYTES)
        what = (order.model, source)
    _buy(context, "fal", order, context.folder / VIDEO, name_of("video", *what))
    return StageOutput(files=(OutputFile(VIDEO, "video/mp4"),))


def background(context: StageContext) -> compose.Background:
    """What is put behind the subject: generated, given, or a colour. Raises MediaError."""
    params: RestyleParams = context.params
    picture = None
    if params.background_prompt:
        picture = bought(context, "reference", PICTURE)
    elif (given := params.image_bytes()) is not None:
        picture = context.folder / "background.img"
        picture.write_bytes(given)
    return compose.Background(params.background_color, picture, params.background_blur)


def bought(context: StageContext, stage: str, name: str) -> Path:
    """What a paid step has made. StageError: not_bought, where a retry with other params began after that step."""
    try:
        return context.file(stage, name)
    except LookupError:
        message = f"What is asked for now needs what the stage `{stage}` buys: retry from there."
        raise StageError("not_bought", message) from None


def _buy(context: StageContext, provider: str, order: Order, target: Path, name: str) -> None:
    settings = current()
    seller: Provider = PROVIDERS[provider](settings)
    buy(
        seller,
        order,
        target,
        ledger=context.ledger,
        name=name,
        settings=settings,
        accepted_losses=context.params.pay_again,
        tell=context.progress,
    )


def _small_copy(context: StageContext, facts: MediaFacts, target: Path, most_frames: int | None = None) -> int:
    """A copy to send: small, upright, without sound and metadata; its number of frames, `most_frames` at most."""
    rate = (facts.video.fps if facts.video else 0.0) or 25.0
    if most_frames:
        rate = min(rate, (most_frames - 1) / facts.duration)
    scale = f"scale='min({SIDE},iw)':'min({SIDE},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2"
    options: list[str] = ["-map", f"0:{frames.picture_of(facts).index}", "-an", "-vf", f"{scale},format=yuv420p"]
    options += ["-r", f"{rate:.6f}", "-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-map_metadata", "-1"]
    limits = ffmpeg.ChildLimits(cpu_seconds=1800, output_seconds=facts.duration + 1.0)
    ffmpeg.run([ffmpeg.Input(context.input.path)], [*options, "-movflags", "+faststart"], target, limits=limits)
    return max(1, round(rate * facts.duration))


def _sentence(what: str, text: str | None) -> str:
    return f"{what}: {text.strip().rstrip('.')}." if text and text.strip() else ""


def _surroundings(params: RestyleParams) -> str:
    return _sentence("Surroundings", params.background_prompt)


def _aspect(context: StageContext, facts: MediaFacts) -> str:
    height, width = frames.first_picture(context.input.path, facts).shape[:2]
    return min(ASPECTS, key=lambda name: abs(ASPECTS[name] - width / height))


def _media_type(picture: Path) -> str:
    with picture.open("rb") as file:
        return "image/png" if file.read(8) == compose.PICTURES[0] else "image/jpeg"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest: Any = hashlib.file_digest(file, "sha256")
    return str(digest.hexdigest())
