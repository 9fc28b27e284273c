"""Looks: every frame at its time, upright, with the sound as it was; and what they look like."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from callsheet.media import frames, looks, lut, matte
from callsheet.media.compose import Background, VideoMatte, over_background, stretch, with_sound_of
from callsheet.media.errors import MediaError
from callsheet.media.probe import MediaFacts, probe
from tests.media.clips import CODEC, SOUND, facts_of, picture, scene, sound, times
from tests.media.conftest import Make

Restyle = Callable[[Path, MediaFacts, Path], object]
LOOKS: dict[str, Restyle] = {
    "graded": lambda s, f, t: looks.graded(s, f, t, lut.built_in("warm")),
    "drawn": lambda s, f, t: looks.drawn(s, f, t, "cartoon", 1.0),
}
# Gaps between frames that are all different: what a screen recording or a phone writes.
UNEVEN = (
    "-vf",
    "setpts='(N+0.31*mod(N*N,3)+if(gt(N,9),4,0))/(10*TB)'",
    "-fps_mode",
    "passthrough",
    "-video_track_timescale",
    "90000",
)
SOURCES: dict[str, tuple[str, ...]] = {
    "even.mp4": (*scene(), *SOUND, *CODEC),
    "uneven.mp4": (*scene(), *SOUND, *UNEVEN, *CODEC[:-1]),
    "late.mp4": ("-itsoffset", "0.5", *scene(), *SOUND, "-map", "0:v", "-map", "1:a", *CODEC),
    "odd.mkv": (*scene("161x121"), *SOUND, *CODEC[:4], "-pix_fmt", "yuv444p", "-c:a", "flac", "-shortest"),
    "vorbis.mkv": (*scene(), *SOUND, *CODEC[:6], "-c:a", "libvorbis", "-shortest"),
    "two.avi": (*scene(), *SOUND, "-map", "0:v", "-map", "1:a", "-map", "1:a", "-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "silent.mp4": (*scene(), *CODEC),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", SOURCES)
def test_frames_times_and_sound_stay_as_they_are(make: Make, tmp_path: Path, name: str, look: str) -> None:
    source = make(name, *SOURCES[name])
    facts = facts_of(source)
    target = tmp_path / f"made{frames.container_for(facts).suffix}"
    LOOKS[look](source, facts, target)
    made = facts_of(target)
    np.testing.assert_allclose(times(target), times(source), atol=0.0011)  # Matroska counts in milliseconds
    assert len(made.audio) == len(facts.audio)
    if facts.audio:
        assert sound(target) == sound(source)
    assert facts.video
    assert made.video
    assert (made.video.width, made.video.height) == (facts.video.width // 2 * 2, facts.video.height // 2 * 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, target.name])


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_video_comes_out_upright(make: Make, tmp_path: Path, turn: int, look: str) -> None:
    lying = make("lying.mp4", *scene("160x96", seconds=0.6), *CODEC)
    source = make("turned.mp4", "-display_rotation", str(turn), "-i", lying, "-c", "copy")
    target = tmp_path / "made.mp4"
    LOOKS[look](source, facts_of(source), target)
    made, shown = picture(target, 0.1), picture(source, 0.1)
    assert made.shape == shown.shape == ((96, 160, 3) if turn == 180 else (160, 96, 3))
    assert correlation(made, shown) > 0.6 > correlation(made, np.ascontiguousarray(shown[::-1, ::-1])) + 0.2


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("turn", [0, 90])
def test_what_was_made_for_television_keeps_the_shape_of_its_pixels(
    make: Make, tmp_path: Path, turn: int, look: str
) -> None:
    squeezed = make("squeezed.mp4", *scene("144x96", seconds=0.4), "-vf", "setsar=64/45", *CODEC)
    source = make("source.mp4", "-display_rotation", str(turn), "-i", squeezed, "-c", "copy")
    target = tmp_path / "made.mp4"
    LOOKS[look](source, facts_of(source), target)
    with av.open(str(target)) as container:
        assert container.streams.video[0].sample_aspect_ratio == (Fraction(64, 45) if turn == 0 else Fraction(45, 64))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_what_is_made_begins_at_once_wherever_the_clock_of_its_source_stood(
    make: Make, tmp_path: Path, name: str, look: str
) -> None:
    source = make(name, *scene(seconds=1), *SOUND, *CODEC, "-output_ts_offset", "40")
    target = tmp_path / "made.mp4"
    shares: list[float] = []
    if look == "drawn":
        looks.drawn(source, facts_of(source), target, "cartoon", 1.0, progress=shares.append)
        assert min(shares) < 0.2
    else:
        LOOKS[look](source, facts_of(source), target)
    with av.open(str(target)) as container:
        assert 0 <= (container.start_time or 0) < 0.1 * av.time_base
    np.testing.assert_allclose(times(target), times(source), atol=0.0011)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_a_graded_picture_is_the_source_looked_up(make: Make, tmp_path: Path) -> None:
    source = make("grey.mp4", "-f", "lavfi", "-i", "color=0x808080:size=64x64:rate=5:duration=1", *CODEC)
    table = lut.Lut(2, np.tile(np.array([[1.0, 0.25, 0.0]], np.float32), (8, 1)))
    looks.graded(source, facts_of(source), tmp_path / "full.mp4", table)
    looks.graded(source, facts_of(source), tmp_path / "half.mp4", table.mixed(0.5))
    np.testing.assert_allclose(picture(tmp_path / "full.mp4")[32, 32], [0, 64, 255], atol=6)
    np.testing.assert_allclose(picture(tmp_path / "half.mp4")[32, 32], [64, 96, 192], atol=6)


def test_no_intensity_is_the_source(make: Make, tmp_path: Path) -> None:
    source = make("a.mp4", *SOURCES["silent.mp4"])
    looks.drawn(source, facts_of(source), tmp_path / "b.mp4", "sketch", 0.0)
    assert np.abs(picture(source).astype(int) - picture(tmp_path / "b.mp4")).mean() < 3


def test_a_sketch_is_grey_on_white_and_a_cartoon_has_few_tones(make: Make) -> None:
    frame = picture(make("a.mp4", *scene("320x240"), *CODEC))
    sketch, cartoon = looks.sketch(frame), looks.cartoon(frame)
    assert np.ptp(sketch, axis=2).max() == 0
    assert sketch.mean() > 190
    assert len(np.unique(cartoon.max(axis=2))) < len(np.unique(frame.max(axis=2))) / 3


def test_a_painting_is_made_in_the_sources_size(make: Make, tmp_path: Path) -> None:
    source = make("a.mp4", *scene("96x64", seconds=0.3), *CODEC)
    looks.painted(source, facts_of(source), tmp_path / "b.mp4", 7, 1.0, side=64)
    assert len(times(tmp_path / "b.mp4")) == len(times(source))
    assert np.abs(picture(source, 0).astype(int) - picture(tmp_path / "b.mp4", 0)).mean() > 20


def test_smoothing_takes_flicker_from_what_stands_still_and_leaves_what_moves() -> None:
    chance = np.random.default_rng(1)
    still = np.full((48, 48, 3), 90, np.uint8)
    smooth, flicker, smoothed = looks.Smoother(0.8), [], []
    for n in range(12):
        source = still.copy()
        source[:, 4 * n : 4 * n + 4] = 255  # a bar that moves
        painted = (source.astype(int) + chance.integers(-20, 20, source.shape)).clip(0, 255).astype(np.uint8)
        flicker.append(painted[:, :4].astype(int))
        smoothed.append(smooth(source, painted))
    assert change([s[:, :4].astype(int) for s in smoothed[4:]]) < 0.5 * change(flicker[4:])
    assert smoothed[-1][:, 44:].mean() > 235


def change(pictures: list[np.ndarray]) -> float:
    return float(np.mean([np.abs(b - a).mean() for a, b in itertools.pairwise(pictures)]))


def test_memory_does_not_grow_with_the_number_of_frames(make: Make, tmp_path: Path) -> None:
    source, held, most = make("a.mp4", *scene("64x48", 25, 6), *CODEC), [0], [0]

    class Counted(np.ndarray):
        def __del__(self) -> None:
            held[0] -= 1

    def paint(frame: frames.Picture, _: float) -> frames.Picture:
        held[0] += 1
        most[0] = max(most[0], held[0])
        return frame.view(Counted)

    done = frames.repaint(source, facts_of(source), tmp_path / "b.mp4", paint, threads=2)
    assert done.frames == 150
    assert most[0] <= 8


def test_a_failure_in_mid_video_leaves_no_file(make: Make, tmp_path: Path) -> None:
    source = make("a.mp4", *SOURCES["even.mp4"])

    def paint(frame: frames.Picture, seconds: float) -> frames.Picture:
        if seconds > 1:
            raise RuntimeError("out of paint")
        return frame

    with pytest.raises(RuntimeError, match="out of paint"):
        frames.repaint(source, facts_of(source), tmp_path / "b.mp4", paint)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_sound_alone_is_no_video(make: Make) -> None:
    facts = probe(make("a.flac", *SOUND))
    with pytest.raises(MediaError) as caught:
        frames.picture_of(facts)
    assert caught.value.code == "no_video_stream"


def test_a_subject_stays_and_its_background_goes(make: Make, tmp_path: Path) -> None:
    source = make("a.mp4", *SOURCES["even.mp4"])

    def left_half(frame: frames.Picture, _: float) -> matte.Matte:
        found = np.zeros(frame.shape[:2], np.float32)
        found[:, : frame.shape[1] // 2] = 1.0
        return found

    over_background(source, facts_of(source), tmp_path / "b.mp4", left_half, Background("#00ff00"))
    before, after = picture(source), picture(tmp_path / "b.mp4")
    np.testing.assert_allclose(after[:, 100:].mean((0, 1)), [0, 255, 0], atol=8)
    assert np.abs(before[:, :70].astype(int) - after[:, :70]).mean() < 6
    assert (times(tmp_path / "b.mp4"), sound(tmp_path / "b.mp4")) == (times(source), sound(source))


def test_the_matte_of_people_runs_and_finds_nobody_in_a_test_picture(make: Make) -> None:
    found = matte.PeopleMatte()(picture(make("a.mp4", *scene("320x240"), *CODEC)))
    assert (found.shape, found.dtype.name) == ((240, 320), "float32")
    assert found.mean() < 0.5


def test_a_matte_that_comes_as_a_video_is_followed_by_time_and_stretched(make: Make) -> None:
    half = "size=32x32:rate=4:duration=0.5,format=gray"
    black_then_white = f"color=black:{half}[a];color=white:{half}[b];[a][b]concat"
    path = make("matte.mp4", "-f", "lavfi", "-i", black_then_white, *CODEC)
    read = VideoMatte(path, 0, stretch=2.0)
    frame = np.zeros((64, 48, 3), np.uint8)
    found = [round(float(read(frame, 5.0 + seconds).mean())) for seconds in (0.0, 0.9, 1.0, 1.9, 3.0)]
    read.close()
    assert found == [0, 0, 1, 1, 1]


def test_anothers_video_gets_the_sources_sound_and_length(make: Make, tmp_path: Path) -> None:
    source = make("a.mp4", *SOURCES["even.mp4"])
    other = make("other.mp4", *scene("128x96", 8, 1), *CODEC)
    facts, found = facts_of(source), facts_of(other)
    assert stretch(facts, found) == pytest.approx(2.0, abs=0.1)
    with_sound_of(source, facts, other, found, tmp_path / "b.mp4")
    assert sound(tmp_path / "b.mp4") == sound(source)
    assert facts_of(tmp_path / "b.mp4").duration == pytest.approx(facts.duration, abs=0.15)
