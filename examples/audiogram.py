"""A recording as a picture that moves: its waveform as a video, for places that play no plain sound.

.venv/bin/callsheet check examples/audiogram.py --input talk.mp3 --output out
"""

from typing import Annotated, Literal

import msgspec

from callsheet import OutputFile, StageContext, StageOutput, pipeline, stage
from callsheet.media import ffmpeg
from callsheet.media.probe import probe


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may choose."""

    shape: Annotated[Literal["line", "cline", "p2p"], msgspec.Meta(description="How the wave is drawn.")] = "cline"
    color: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{6}$", description="Its colour, as RRGGBB.")] = "3366ff"


@stage(version="1")
def draw(run: StageContext) -> StageOutput:
    """Draw it, 720 pixels square, 25 pictures a second."""
    seconds = probe(run.input.path).duration
    wave = f"[0:a]showwaves=s=720x720:r=25:mode={run.params.shape}:colors=0x{run.params.color},format=yuv420p[v]"
    options = ["-filter_complex", wave, "-map", "[v]", "-map", "0:a:0", "-c:v", "libx264", "-c:a", "aac"]
    target = run.folder / "audiogram.mp4"
    ffmpeg.run([ffmpeg.Input(run.input.path)], options, target, duration=seconds, progress=run.progress)
    return StageOutput(files=(OutputFile("audiogram.mp4", "video/mp4", artifact=True),), input={"duration": seconds})


audiogram = pipeline("audiogram", draw, params=Params, description="The waveform of a recording as a video.")
