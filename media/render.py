"""A clip from its plan: one decode, one filter graph, and one encode for each of its two versions, all at once.

Each piece is an input of its own, sought to exactly (`-ss` before `-i` decodes from the key frame before and drops what
comes too early), so that pieces an hour apart cost no hour. The window's way is given by `sendcmd`: a line for each
frame at which it moves, which is exact, has no limit that an expression has, and leaves all pixels inside ffmpeg. Both
versions go into one file, and are put into an mp4 each by copying.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from callsheet.media import ffmpeg, hdr, loudness
from callsheet.media.cut import Cut, Piece
from callsheet.media.pictures import UNWEAVE, Picture
from callsheet.media.reframe import Framing, positions

FONT = Path(__file__).parent / "fonts" / "OpenSans-ExtraBold.ttf"
MARGIN = 0.5  # seconds read beyond the end of a piece: what is too much is trimmed exactly
FADE = 0.008  # seconds of sound at each seam, against clicks
BLUR_SHARE = 8  # the blurred background is made at an eighth of the size
THREADS = 4  # of an encoder: what x264 makes depends on their number, and clips must not depend on the machine
NO_SOUND = f"anullsrc=r={loudness.RATE}"
DECODERS = 2  # threads of each piece's decoder: twelve with one a core would hold too many pictures
ENCODING = (
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-profile:v", "high", "-pix_fmt", "yuv420p"),
    *("-threads:v", str(THREADS), "-c:a", "aac", "-b:a", "160k", "-ac", "2"),
    *("-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"),
)


class Plan(msgspec.Struct, frozen=True):
    """All that a clip is made of: the file, its streams (no sound: `audio_index` is -1), the pieces, the window, the
    overlay (an ASS file) if any, and the loudness (LUFS) it is brought to, if any."""

    source: Path
    picture: Picture
    audio_index: int
    cut: Cut
    framing: Framing
    overlay: Path | None = None
    loudness: float | None = loudness.TARGET


class Rendered(msgspec.Struct, frozen=True):
    """What was made. `shown` is the version with the overlay. Loudness in LUFS, None for silence; `said` is the tail of
    what ffmpeg said of the overlay (a missing glyph)."""

    clean: Path
    shown: Path | None
    loudness: float | None
    said: str


def render(plan: Plan, folder: Path, name: str, progress: ffmpeg.Progress = lambda _: None) -> Rendered:
    """Make the clip in `folder`: `NAME-clean.mp4` and, with an overlay, `NAME.mp4`; without, `NAME.mp4` alone.

    MediaError: conversion_failed.
    """
    sound = sound_graph(plan)
    gain = _gain(plan, sound)
    with tempfile.TemporaryDirectory(prefix=".render-", dir=folder) as temporary:
        both = Path(temporary) / "both.mp4"
        commands = Path(temporary) / "window.cmd"
        commands.write_text(window_commands(plan))
        inputs = [*_inputs(plan), ffmpeg.Input(commands, name=commands.name, is_input=False)]
        inputs += hdr.tables(plan.picture.hdr, Path(temporary))
        options = ["-filter_complex", f"{sound};[sound]{gain}[level];{picture_graph(plan)}", "-map", "[clean]"]
        if plan.overlay is not None:
            fonts = Path(temporary) / "fonts"  # libass would take every file beside the font for one
            fonts.mkdir()
            (fonts / FONT.name).symlink_to(FONT)
            inputs += [
                ffmpeg.Input(plan.overlay, name="overlay.ass", is_input=False),
                ffmpeg.Input(fonts, name=fonts.name, is_input=False),
            ]
            options += ["-map", "[shown]"]
        options += ["-map", "[level]", *ENCODING, "-g", str(round(2 * plan.cut.fps))]
        said = ffmpeg.run(
            inputs,
            options,
            both,
            duration=plan.cut.seconds,
            progress=progress,
            log="info",
            limits=ffmpeg.ChildLimits(output_seconds=plan.cut.seconds + 1, cpu_seconds=_processor_seconds(plan)),
        )
        shown = None
        clean = folder / (f"{name}-clean.mp4" if plan.overlay else f"{name}.mp4")
        _single(both, 0, clean)
        if plan.overlay is not None:
            shown = folder / f"{name}.mp4"
            _single(both, 1, shown)
    return Rendered(clean, shown, loudness.integrated(clean), said)


def _gain(plan: Plan, sound: str) -> str:
    """The filter that brings the sound to the wanted loudness."""
    if plan.loudness is None or plan.audio_index < 0:
        return "anull"
    measured = loudness.measure(_inputs(plan, picture=False), sound, plan.loudness)
    return loudness.normalise(measured, plan.loudness)


def thumbnail(clip: Path, at: float, target: Path) -> None:
    """The frame at `at` seconds of a clip of ours, as a JPEG. MediaError: conversion_failed."""
    options = ["-map", "0:v:0", "-frames:v", "1", "-q:v", "3", "-update", "1", "-bitexact"]
    ffmpeg.run([ffmpeg.Input(clip, ("-ss", f"{at:.3f}"), trusted=True)], options, target)


def sound_graph(plan: Plan) -> str:
    """The pieces' sound, each exactly as long as its frames, joined as `[sound]`; silence, where there is none."""
    chains = []
    for number, piece in enumerate(plan.cut.pieces):
        samples = round(piece.frames / plan.cut.fps * loudness.RATE)
        track = f"[{number}:{plan.audio_index}]aresample={loudness.RATE}:async=1:first_pts=0"
        chains.append(
            f"{track if plan.audio_index >= 0 else NO_SOUND},"
            f"aformat=sample_fmts=fltp:channel_layouts=stereo,apad,atrim=end_sample={samples},asetpts=PTS-STARTPTS,"
            f"afade=t=in:d={FADE},afade=t=out:st={samples / loudness.RATE - FADE:.4f}:d={FADE}[s{number}]"
        )
    joined = "".join(f"[s{number}]" for number in range(len(chains)))
    return ";".join([*chains, f"{joined}concat=n={len(chains)}:v=0:a=1[sound]"])


def picture_graph(plan: Plan) -> str:
    """The pieces' pictures, each of exactly its number of frames, joined, framed, as `[clean]` (and `[shown]`)."""
    chains = [_piece_chain(plan, number, piece) for number, piece in enumerate(plan.cut.pieces)]
    joined = "".join(f"[p{number}]" for number in range(len(chains)))
    chains.append(f"{joined}concat=n={len(chains)}:v=1:a=0[joined]")
    last = "[framed]" if plan.overlay else "[clean]"
    chains.append(_blurred(plan.framing, last) if plan.framing.layout == "blurred" else _cropped(plan.framing, last))
    if plan.overlay is not None:
        chains.append("[framed]split[clean][under];[under]ass=filename=overlay.ass:fontsdir=fonts[shown]")
    return ";".join(chains)


def _piece_chain(plan: Plan, number: int, piece: Piece) -> str:
    """In 8 bits before anything is cropped: at an odd place, ffmpeg's crop tears samples of 10 bits asunder."""
    picture = plan.picture
    woven = f"{UNWEAVE}," if picture.interlaced else ""
    return (
        f"[{number}:{picture.index}]{woven}fps=fps={plan.cut.fps:.6f}:start_time=0,"
        f"tpad=stop_mode=clone:stop_duration=2,trim=end_frame={piece.frames},setpts=PTS-STARTPTS,"
        f"scale={picture.width}:{picture.height},setsar=1,{hdr.filters(picture.hdr)}format=yuv420p[p{number}]"
    )


def _cropped(framing: Framing, last: str) -> str:
    wide, high = framing.size
    return (
        f"[joined]sendcmd=f=window.cmd,crop=w={framing.width}:h={framing.height}:x={_start(framing)[0]}:"
        f"y={_start(framing)[1]}:exact=1,scale={wide}:{high}:flags=bicubic,setsar=1,format=yuv420p{last}"
    )


def _start(framing: Framing) -> tuple[int, int]:
    first = framing.keys[0].at
    return (first, framing.across) if framing.axis == "x" else (framing.across, first)


def _blurred(framing: Framing, last: str) -> str:
    wide, high = framing.size
    small = f"{wide // BLUR_SHARE // 2 * 2}:{high // BLUR_SHARE // 2 * 2}"
    return (
        f"[joined]split[behind][front];[behind]scale={small}:force_original_aspect_ratio=increase,crop={small},"
        f"boxblur=4:2,eq=brightness=-0.08,scale={wide}:{high}:flags=bilinear[back];"
        f"[front]scale={wide}:{high}:force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bicubic[whole];"
        f"[back][whole]overlay=(W-w)/2:(H-h)/2,setsar=1,format=yuv420p{last}"
    )


def window_commands(plan: Plan) -> str:
    """A line for `sendcmd` at each frame at which the window moves: half a frame early, so that it is there in time."""
    framing, fps = plan.framing, plan.cut.fps
    lines, before = [], framing.keys[0].at
    for number, at in enumerate(positions(framing, plan.cut.frames, fps)):
        if at != before:
            lines.append(f"{max(0.0, (number - 0.5) / fps):.4f} crop {framing.axis} {at};")
            before = at
    return "\n".join(lines) or f"0 crop {framing.axis} {before};"


def _inputs(plan: Plan, *, picture: bool = True) -> list[ffmpeg.Input]:
    threads = ("-threads", str(DECODERS)) if picture else ("-vn",)
    return [
        ffmpeg.Input(
            plan.source,
            (*threads, "-ss", f"{piece.start:.3f}", "-t", f"{piece.frames / plan.cut.fps + MARGIN:.3f}"),
        )
        for piece in plan.cut.pieces
    ]


def _single(both: Path, stream: int, target: Path) -> None:
    """One version of the picture and the sound, copied."""
    options: Sequence[str] = ("-map", f"0:v:{stream}", "-map", "0:a:0", "-c", "copy", "-movflags", "+faststart")
    options = (*options, "-map_metadata", "-1", "-fflags", "+bitexact")
    ffmpeg.run([ffmpeg.Input(both, trusted=True)], options, target)


def _processor_seconds(plan: Plan) -> int:
    """Far more than a clip of that length and size has ever needed: about 3 s a second of 1080p at 30 fps."""
    pixels = plan.picture.width * plan.picture.height / (1920 * 1080) + 2
    return 300 + int(plan.cut.seconds * pixels * plan.cut.fps / 30 * 20)
