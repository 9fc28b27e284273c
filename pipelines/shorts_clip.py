"""One clip of `shorts`, from its choice and what a client changed of it to its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from callsheet.media import captions, render, watch
from callsheet.media.audio import RATE, read_wav
from callsheet.media.corrections import is_joined, retold
from callsheet.media.cut import LONGEST_CLIP, SHORTEST_PIECE, Span, Stretch, on_frames, without_pauses
from callsheet.media.errors import MediaError
from callsheet.media.hook import place
from callsheet.media.material import Choice
from callsheet.media.pictures import Picture
from callsheet.media.reframe import Framing, Sample, axis_of, frame, is_whole, shape_for
from callsheet.media.transcript import Transcript, Word, join_words
from callsheet.pipelines.common import facts_of, warning
from callsheet.pipelines.declare import OutputFile, StageContext, StageError, StageOutput
from callsheet.pipelines.shorts_params import Edit

WATCH_SHARE = 0.25  # of the stage's time
LOUDNESS_OFF = 1.0  # LU
THUMBNAIL_AT = 0.3  # of the clip: by then whoever speaks is seen; if a hook is, too, just after it
SLACK = 0.05  # seconds; a container's length is not exact
GLYPH_MISSING = "fontselect: failed"  # as libass has it


class Wanted(msgspec.Struct, frozen=True):
    """A clip as it is to be: the choice with the client's changes in it."""

    number: int
    choice: Choice
    spans: tuple[Stretch, ...]
    remove_silence: bool
    output_format: str
    style: captions.Name | None
    hook: str
    text: str | None


def clip(context: StageContext) -> StageOutput:
    """The stage `clip`: watch it, frame it, caption it, render it, and say what is to be known of it."""
    return _Making(context, wanted_clip(context)).run()


def wanted_clip(context: StageContext) -> Wanted:
    """What is to be made. StageError: edit_out_of_range."""
    params, choice = context.params, msgspec.convert(context.item["choice"], Choice)
    number = int(context.item["number"])
    edit: Edit = params.edits.get(str(number), Edit())
    start = choice.start if edit.start is None else edit.start
    end = choice.end if edit.end is None else edit.end
    spans = tuple(Stretch(s.start, s.end) for s in edit.segments or ()) or (Stretch(start, end),)
    _check(number, spans, facts_of(context).duration)
    style = edit.captions or params.captions
    hook = edit.hook_text if edit.hook_text is not None else choice.hook if params.hook else ""
    remove_silence = params.remove_silence if edit.remove_silence is None else edit.remove_silence
    return Wanted(
        number=number,
        choice=msgspec.structs.replace(choice, title=edit.title or choice.title),
        spans=spans,
        remove_silence=remove_silence and edit.segments is None,
        output_format=edit.output_format or params.output_format,
        style=None if style == "none" else style,
        hook=hook.strip(),
        text=edit.text,
    )


def _check(number: int, spans: Sequence[Span], duration: float) -> None:
    """Only here is it known how long the file is, and what the edges were that an edit left as they are."""
    if any(span.end > duration + SLACK for span in spans):
        raise StageError("edit_out_of_range", f"Clip {number} would reach beyond the {duration:.1f} s of the file.")
    lengths = [span.end - span.start for span in spans]
    if min(lengths) < SHORTEST_PIECE - SLACK or sum(lengths) > LONGEST_CLIP + SLACK:
        raise StageError(
            "edit_out_of_range",
            f"Clip {number} would last {sum(lengths):.1f} s; {SHORTEST_PIECE:g} to {LONGEST_CLIP:g}.",
        )


class _Making:
    """One clip in the making."""

    def __init__(self, context: StageContext, wanted: Wanted) -> None:
        self.context, self.wanted = context, wanted
        self.name = f"clip-{wanted.number}"
        self.warnings: list[dict[str, str]] = []
        self.picture = picture_of(context)
        words = transcript_of(context).words
        self.cut = on_frames(self._spans(words), self.picture.fps)
        heard = self.cut.words(words)
        if wanted.text is not None:
            heard = retold(heard, wanted.text, 0.0, self.cut.seconds, joined=is_joined(words))
        self.heard = heard

    def run(self) -> StageOutput:
        """Look, frame, render."""
        context, source = self.context, self.context.input.path
        shape = shape_for(self.picture, self.wanted.output_format)
        looking = self._part(0.0, WATCH_SHARE, "looking")
        axis = axis_of(self.picture, shape)
        whole = is_whole(self.picture, shape)  # of which only the beginning is looked at, for a place for the hook
        watched = self.cut.first(captions.HOOK_SECONDS if self.wanted.hook else 0.0) if whole else self.cut
        seen = watch.watch(source, self.picture, watched, axis, looking)
        framing = frame(self.picture, shape, seen)
        context.log(f"{self.cut.seconds:.1f} s in {len(self.cut.pieces)} piece(s), framed by {framing.layout}")
        plan = render.Plan(
            source=source,
            picture=self.picture,
            audio_index=facts_of(context).audio_index,
            cut=self.cut,
            framing=framing,
            overlay=self._overlay(framing, seen),
            loudness=context.params.loudness,
        )
        return self._published(plan, self._rendered(plan))

    def _spans(self, words: Sequence[Word]) -> Sequence[Span]:
        if not self.wanted.remove_silence:
            return self.wanted.spans
        (span,) = self.wanted.spans
        sound = read_wav(self.context.file("audio", "speech.wav"), int(span.start * RATE), int(span.end * RATE))
        return without_pauses(span.start, span.end, words, sound)

    def _overlay(self, framing: Framing, seen: Sequence[Sample]) -> Path | None:
        """The captions and the hook as a file; what cannot be made is left out, and said."""
        style = self.wanted.style if self.heard else None
        if self.wanted.style and not self.heard:
            self._warn("no_captions", "Nobody speaks in {}: it has no captions.")
        if style is None and not self.wanted.hook:
            return None
        path = self.context.folder / "overlay.ass"
        try:
            path.write_text(self._written(style, framing, seen))
        except Exception as error:  # noqa: BLE001  (whatever it trips over, it costs the captions only)
            self.context.log(f"captions: {type(error).__name__}")
            self._warn("captions_failed", "The captions of {} could not be made; it is without them.")
            return None
        return path

    def _written(self, style: captions.Name | None, framing: Framing, seen: Sequence[Sample]) -> str:
        title, cut = self.wanted.hook, self.cut
        meanwhile = [sample for sample in seen if sample.time < captions.HOOK_SECONDS]
        top = place(framing, self.picture, meanwhile, cut.fps, captions.hook_height(title, framing.size))
        return captions.overlay(self.heard, style, title, framing.size, cut.seconds, hook_top=top)

    def _rendered(self, plan: render.Plan) -> render.Rendered:
        """The clip; without what is burned in, if that is what fails."""
        progress = self._part(WATCH_SHARE, 1.0, "rendering")
        try:
            return render.render(plan, self.context.folder, self.name, progress)
        except MediaError as error:
            if plan.overlay is None:
                raise
            self.context.log(f"rendering with captions: {error.message}")
        bare = msgspec.structs.replace(plan, overlay=None)
        made = render.render(bare, self.context.folder, self.name, progress)
        self._warn("captions_failed", "The captions of {} could not be burned in; it is without them.")
        return made

    def _published(self, plan: render.Plan, made: render.Rendered) -> StageOutput:
        clips = [path for path in (made.shown, made.clean) if path]
        files = [OutputFile(path.name, "video/mp4", artifact=True) for path in clips]
        files += self._thumbnail(clips[0])
        if plan.loudness is not None and abs((made.loudness or plan.loudness) - plan.loudness) > LOUDNESS_OFF:
            self._warn("loudness_missed", f"{{}} is at {made.loudness:.1f} LUFS, not {plan.loudness:g}.")
        if made.shown and GLYPH_MISSING in made.said:
            self._warn("glyphs_missing", "The captions of {} hold letters that the font lacks.")
        files.append(OutputFile(f"{self.name}.json", "application/json", artifact=True))
        facts = self._described(plan, made, [file.name for file in files])
        whole = facts | {"words": self.heard}
        (self.context.folder / files[-1].name).write_bytes(msgspec.json.format(msgspec.json.encode(whole)))
        return StageOutput(data={"clip": facts}, files=tuple(files), result={"warnings": self.warnings})

    def _thumbnail(self, clip: Path) -> list[OutputFile]:
        try:
            at = max(self.cut.seconds * THUMBNAIL_AT, captions.HOOK_SECONDS + 0.1 if self.wanted.hook else 0.0)
            render.thumbnail(clip, min(at, self.cut.seconds * 0.9), self.context.folder / f"{self.name}.jpg")
        except MediaError as error:
            self.context.log(f"thumbnail: {error.message}")
            self._warn("thumbnail_failed", "{} has no thumbnail.")
            return []
        return [OutputFile(f"{self.name}.jpg", "image/jpeg", artifact=True)]

    def _described(self, plan: render.Plan, made: render.Rendered, files: list[str]) -> dict[str, Any]:
        """What is to be known of the clip. Times are seconds of the source, but for `duration`."""
        choice, pieces, fps = self.wanted.choice, self.cut.pieces, self.cut.fps
        segments = [{"start": p.start, "end": round(p.start + p.frames / fps, 3)} for p in pieces]
        return {
            "number": self.wanted.number,
            "start": segments[0]["start"],
            "end": segments[-1]["end"],
            "segments": segments,
            "duration": round(self.cut.seconds, 3),
            "width": plan.framing.size[0],
            "height": plan.framing.size[1],
            "fps": round(fps, 3),
            "layout": plan.framing.layout,
            "captions": self.wanted.style if made.shown and self.heard else None,
            "hook": self.wanted.hook if made.shown else "",
            "loudness": made.loudness,
            "title": choice.title,
            "score": choice.score,
            "why": choice.why,
            "features": choice.features,
            "descriptions": choice.descriptions,
            "text": join_words(self.heard),
            "files": files,
        }

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(warning(code, message.format(self.name)))

    def _part(self, low: float, high: float, message: str) -> Callable[[float], None]:
        return lambda fraction: self.context.progress(low + (high - low) * fraction, message)


def picture_of(context: StageContext) -> Picture:
    """The moving picture that the stage `probe` found."""
    return msgspec.convert(context.data("probe")["picture"], Picture)


def transcript_of(context: StageContext) -> Transcript:
    """What was heard."""
    return msgspec.json.decode(context.file("transcribe", "words.json").read_bytes(), type=Transcript)
