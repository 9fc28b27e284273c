"""Shots and pictures: cuts found in real video, seen the right way up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callsheet.media.errors import MediaError
from callsheet.media.pictures import Picture, look, pictures, small
from callsheet.media.shots import scan
from tests.media.conftest import Make


@pytest.fixture
def scenes(make: Make) -> Path:
    """Two seconds of bars, two of a moving pattern, two of plain red."""
    parts = ["smptebars=s=160x90:r=25:d=2", "testsrc2=s=160x90:r=25:d=2", "color=red:s=160x90:r=25:d=2"]
    inputs = [argument for part in parts for argument in ("-f", "lavfi", "-i", part)]
    return make("scenes.mp4", *inputs, "-filter_complex", "concat=n=3", "-c:v", "libx264", "-preset", "ultrafast")


def test_cuts_are_found_where_they_are_and_motion_where_something_moves(scenes: Path) -> None:
    fractions: list[float] = []
    shots = scan(scenes, look(scenes, 0), 6.0, fractions.append)
    assert shots.cuts == pytest.approx((2.0, 4.0), abs=0.21)
    assert len(shots.motion) == 30
    assert min(shots.motion[12:18]) > 5 * max(*shots.motion[:8], *shots.motion[22:])
    assert fractions == sorted(fractions)


def test_a_phone_s_video_is_seen_upright(make: Make) -> None:
    plain = make("plain.mp4", "-f", "lavfi", "-i", "testsrc=s=160x90:r=10:d=1", "-c:v", "libx264")
    turned = make("turned.mp4", "-display_rotation", "90", "-i", plain, "-c", "copy")
    shown = make("shown.mp4", "-i", turned, "-c:v", "libx264")  # ffmpeg turns it by itself
    picture = look(turned, 0)
    assert (picture.width, picture.height) == (90, 160)
    ours, theirs = (next(pictures(f, look(f, 0))).bgr(90, 160).astype(int) for f in (turned, shown))
    assert np.mean(np.abs(ours - theirs)) < 4


def test_pixels_that_are_not_square_are_made_so(make: Make) -> None:
    wide = make("wide.mp4", "-f", "lavfi", "-i", "testsrc=s=160x90:r=10:d=1", "-vf", "setsar=2", "-c:v", "libx264")
    assert (look(wide, 0).width, look(wide, 0).height) == (320, 90)


def test_frames_of_a_stretch_are_exactly_those_within_it(scenes: Path) -> None:
    times = [seen.time for seen in pictures(scenes, look(scenes, 0), 2.0, 2.2)]
    assert times == pytest.approx([2.0, 2.04, 2.08, 2.12, 2.16])


def test_a_picture_is_made_small_by_its_longer_side_and_never_larger() -> None:
    assert small(Picture(0, 1920, 1080, 30.0), 640) == (640, 360)
    assert small(Picture(0, 100, 200, 30.0), 640) == (100, 200)


def test_a_picture_that_does_not_decode_is_refused(scenes: Path, tmp_path: Path) -> None:
    raw = bytearray(scenes.read_bytes())
    at = raw.index(b"mdat") + 4
    end = raw.index(b"moov") if raw.index(b"moov") > at else len(raw)
    raw[at:end] = bytes(end - at)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(raw)
    with pytest.raises(MediaError) as caught:
        look(broken, 0)
    assert caught.value.code == "media_unreadable"


@pytest.mark.parametrize(
    ("kept", "fps"), [("1", 30.0), ("not(mod(n,5))*not(mod(n,2))+mod(n,5)", 30.0), ("not(mod(n,2))", 15.0)]
)
def test_where_frames_were_left_out_the_rate_is_that_of_the_others(make: Make, kept: str, fps: float) -> None:
    source = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30:d=4", "-vf", f"select='{kept}'", "-fps_mode", "vfr")
    phone = make("phone.mp4", *source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    assert look(phone, 0).fps == pytest.approx(fps, rel=0.02)
