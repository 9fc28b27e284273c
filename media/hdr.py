"""Pictures of high dynamic range, as phones record them, made such that any screen shows them as they were meant.

Everything made here has 8 bits and the colours of ITU-R BT.709. Light is decoded (PQ, HLG: ITU-R BT.2100), white is
put where BT.2408 has it (203 cd/m²), colours are brought from BT.2020 to BT.709, and what is brighter than white is
bent into the little room above it, hue for hue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from callsheet.media import ffmpeg
from callsheet.media.lut import SIDE, Lut, grid

Curve = Literal["pq", "hlg", ""]
CURVES: dict[int, Curve] = {16: "pq", 18: "hlg"}  # by the number of the transfer characteristic in ITU-T H.273
WHITE = 203.0  # cd/m²
PEAK = 1000.0 / WHITE  # as bright as pictures are reckoned with
KNEE = 0.75  # of white: up to here light stays as it is
GAMMA = 2.4  # of screens, ITU-R BT.1886
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020
BT709 = {"color_range": 1, "color_primaries": 1, "color_trc": 1, "colorspace": 1}  # by number, range as of video
TAGS = "color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
Light = npt.NDArray[np.float32]


def curve_of(transfer: int) -> Curve:
    """The curve by which a picture is of high dynamic range; none if it is not."""
    return CURVES.get(transfer, "")


def table(curve: Curve) -> Lut:
    """From the code values of such pictures to those of ordinary ones, for ffmpeg's lut3d."""
    return Lut(SIDE, _ordinary(_light(grid(SIDE), curve), curve))


def filters(curve: Curve) -> str:
    """The filters of ffmpeg that look a picture up in the table of that name, and say what it is now; none of none."""
    if not curve:
        return ""
    shown = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
    return f"lut3d=file={curve}.cube:interp=tetrahedral,{shown},setparams={TAGS},sidedata=mode=delete,"


def tables(curve: Curve, folder: Path) -> list[ffmpeg.Input]:
    """What those filters need, written to `folder`."""
    if not curve:
        return []
    path = folder / f"{curve}.cube"
    table(curve).write(path)
    return [ffmpeg.Input(path, name=path.name, is_input=False)]


def ordinary(picture: npt.NDArray[np.uint8], curve: Curve) -> npt.NDArray[np.uint8]:
    """A picture (blue, green, red) of that curve as an ordinary one."""
    codes = _light(np.arange(256, dtype=np.float32) / np.float32(255), curve)
    made = _ordinary(codes[picture[:, :, ::-1]], curve)
    return np.ascontiguousarray((made[:, :, ::-1] * 255 + 0.5).astype(np.uint8))


def _light(codes: Light, curve: Curve) -> Light:
    """The light of a channel: shares of white, or, with HLG, of the brightest that a camera sees."""
    x = codes.astype(np.float32)
    if curve == "hlg":
        return cast(Light, np.where(x <= 0.5, x * x / 3, (np.exp((x - 0.55991073) / 0.17883277) + 0.28466892) / 12))
    power = np.power(x, 1 / 78.84375)
    share = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return cast(Light, np.power(share, 1 / 0.1593017578) * (10000 / WHITE))


def _ordinary(light: Light, curve: Curve) -> Light:
    if curve == "hlg":  # what a screen of 1000 cd/m² makes of it
        light = light * np.power(np.maximum(light @ LUMA, 1e-6), 0.2)[..., None] * np.float32(PEAK)
    light = np.maximum(light @ TO_709.T, 0)
    most = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    over, room = (most - KNEE) / (1 - KNEE), (PEAK - KNEE) / (1 - KNEE)
    bent = np.where(most > KNEE, KNEE + (1 - KNEE) * over * (1 + over / room**2) / (1 + over), most)
    return cast(Light, np.power((light * (bent / most)).clip(0, 1), 1 / GAMMA).astype(np.float32))
