"""What is seen of a file at a glance: its waveform, its contact sheet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from callsheet.media import storyboard, waveform
from callsheet.media.probe import probe
from tests.media.clips import CODEC, facts_of, scene
from tests.media.conftest import Make


def test_peaks_are_where_the_sound_is_in_the_format_of_audiowaveform(make: Make, tmp_path: Path) -> None:
    loud_in_the_middle = "aevalsrc='0.5*sin(880*PI*t)*between(t,1,2)':sample_rate=8000:duration=3"
    source = make("a.wav", "-f", "lavfi", "-i", loud_in_the_middle)
    waveform.write(waveform.measure(source, probe(source)), tmp_path / "w.json", tmp_path / "w.png")
    found = json.loads((tmp_path / "w.json").read_text())
    assert {k: found[k] for k in ("version", "channels", "sample_rate", "bits")} == {
        "version": 2,
        "channels": 1,
        "sample_rate": 8000,
        "bits": 8,
    }
    peaks = np.array(found["data"]).reshape(-1, 2)
    assert len(peaks) == found["length"] == 24000 // found["samples_per_pixel"]
    third = len(peaks) // 3
    assert np.abs(peaks[: third - 1]).max() == 0
    assert (peaks[third:-third].min(), peaks[third:-third].max()) == pytest.approx((-63, 63), abs=2)
    drawn = cv2.imread(str(tmp_path / "w.png"))
    assert drawn is not None
    assert drawn.shape == (waveform.HEIGHT, waveform.WIDTH, 3)
    dark = (drawn.sum(2) < 600).sum(0)
    assert dark[50:350].max() < 5
    assert dark[450:750].min() > 80


def test_the_peaks_of_all_channels_count(make: Make) -> None:
    source = make("a.wav", "-f", "lavfi", "-i", "aevalsrc='0|0.9*sin(880*PI*t)':sample_rate=8000:duration=1.2")
    assert waveform.measure(source, probe(source)).peaks.max() > 0.85


@pytest.mark.parametrize(("seconds", "tiles"), [(0.3, 1), (6, 12), (12, 24)])  # at most 250 frames to a key frame
def test_a_contact_sheet_says_which_tile_belongs_to_which_time(
    make: Make, tmp_path: Path, seconds: float, tiles: int
) -> None:
    source = make(
        "a.mp4",
        "-f",
        "lavfi",
        "-i",
        f"color=black:size=320x180:rate=25:duration={seconds}",
        "-vf",
        "geq=lum='16+16*T':cb=128:cr=128",
        *CODEC,
    )
    facts = facts_of(source)
    made = storyboard.write(source, facts, tmp_path / "s.jpg", tmp_path / "s.vtt")
    assert (made.tiles, made.tile_width, made.tile_height) == (tiles, 160, 90)
    sheet, track = cv2.imread(str(tmp_path / "s.jpg")), (tmp_path / "s.vtt").read_text()
    assert sheet is not None
    assert track.startswith("WEBVTT\n\n")
    cues = re.findall(r"(\S+) --> (\S+)\ns\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n", track)
    assert len(cues) == tiles
    clock = [(_seconds(a), _seconds(b)) for a, b, *_ in cues]
    assert [b for _, b in clock[:-1]] == [a for a, _ in clock[1:]]
    assert clock[-1][1] == pytest.approx(facts.duration, abs=0.01)
    if tiles > 1:
        lights = [sheet[int(y) : int(y) + 90, int(x) : int(x) + 160].mean() for *_, x, y, _, _ in cues]
        np.testing.assert_allclose(np.diff(lights), 8 * 255 / 219, atol=4)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_a_turned_video_has_upright_tiles(make: Make, tmp_path: Path) -> None:
    lying = make("lying.mp4", *scene("160x90"), *CODEC)
    source = make("turned.mp4", "-display_rotation", "90", "-i", lying, "-c", "copy")
    made = storyboard.write(source, facts_of(source), tmp_path / "s.jpg", tmp_path / "s.vtt")
    assert (made.tile_width, made.tile_height) == (90, 160)


def test_tiles_have_the_shape_that_the_video_is_shown_in(make: Make, tmp_path: Path) -> None:
    source = make("wide.mp4", *scene("144x96"), "-vf", "setsar=64/45", *CODEC)
    made = storyboard.write(source, facts_of(source), tmp_path / "s.jpg", tmp_path / "s.vtt")
    assert (made.tile_width, made.tile_height) == (160, 75)
