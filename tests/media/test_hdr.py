"""Video of high dynamic range comes out as it was meant, on any screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from callsheet.media import looks, lut, render, storyboard
from callsheet.media.cut import Stretch, on_frames
from callsheet.media.pictures import look
from callsheet.media.reframe import Framing, Key
from tests.media.clips import facts_of, picture
from tests.media.conftest import Make

COLOURS = ("0x202020", "0xb0b0b0", "0xc04030", "0x3060c0", "0x30a050", "0xe0a020")  # side by side
TRANSFERS = {"hlg": "arib-std-b67", "pq": "smpte2084"}


@pytest.fixture(params=TRANSFERS)
def source(request: pytest.FixtureRequest, make: Make) -> Path:
    """Six colours as a phone would record them, by another's arithmetic (zimg): 10 bits, white at 203 cd/m²."""
    bars = [part for colour in COLOURS for part in ("-f", "lavfi", "-i", f"color={colour}:s=40x160:r=10:d=1")]
    transfer = TRANSFERS[request.param]
    told = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc:range=tv"
    light = "zscale=tin=709:min=709:pin=709:rin=full:t=linear:npl=203,format=gbrpf32le"
    coded = f"zscale=p=bt2020:t={transfer}:m=bt2020nc:r=limited:npl=203,format=yuv420p10le"
    graph = f"hstack=6,format=gbrp,setparams=color_primaries=bt709:color_trc=bt709,{light},{coded},{told}"
    sound = ("-f", "lavfi", "-i", "sine=duration=1", "-filter_complex", f"{graph}[v]", "-map", "[v]", "-map", "6:a")
    return make("phone.mp4", *bars, *sound, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "5", "-c:a", "aac")


def graded(source: Path, folder: Path) -> np.ndarray:
    looks.graded(source, facts_of(source), folder / "made.mp4", lut.built_in("noir").mixed(0.0))
    return picture(folder / "made.mp4", 0.3)


def drawn(source: Path, folder: Path) -> np.ndarray:
    looks.drawn(source, facts_of(source), folder / "made.mp4", "sketch", 0.0)
    return picture(folder / "made.mp4", 0.3)


def sheet(source: Path, folder: Path) -> np.ndarray:
    storyboard.write(source, facts_of(source), folder / "s.jpg", folder / "s.vtt")
    tile = cv2.imread(str(folder / "s.jpg"))
    assert tile is not None
    return tile[:107, :160]


def clip(source: Path, folder: Path) -> np.ndarray:
    whole = Framing("whole", 240, 160, "x", (Key(0.0, 0),), 0, (240, 160))
    plan = render.Plan(source, look(source, 0), 1, on_frames([Stretch(0.0, 0.8)], 10), whole, loudness=None)
    return picture(render.render(plan, folder, "clip").clean, 0.3)


@pytest.mark.parametrize("way", [graded, drawn, sheet, clip])
def test_colours_are_those_that_were_meant(
    source: Path, tmp_path: Path, way: Callable[[Path, Path], np.ndarray]
) -> None:
    shown = way(source, tmp_path)
    wide = shown.shape[1] / len(COLOURS)
    for n, colour in enumerate(COLOURS):
        meant = [int(colour[at : at + 2], 16) for at in (6, 4, 2)]
        found = shown[10:-10, int((n + 0.3) * wide) : int((n + 0.7) * wide)].mean(axis=(0, 1))
        np.testing.assert_allclose(found, meant, atol=30, err_msg=colour)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".mp4", ".jpg", ".vtt"}  # no table is left
