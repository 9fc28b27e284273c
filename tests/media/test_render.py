"""Rendering: the right frames, in the right window, as long and as loud as asked."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from callsheet.media import looks, loudness, lut, render
from callsheet.media.captions import overlay
from callsheet.media.cut import Cut, Piece, Stretch, on_frames
from callsheet.media.errors import MediaError
from callsheet.media.pictures import Picture, look, pictures
from callsheet.media.probe import probe
from callsheet.media.reframe import Framing, Key, Sample, frame
from callsheet.media.transcript import Word
from tests.media.clips import times
from tests.media.conftest import Make
from tests.media.spoken import talk

SIZE = (90, 160)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, jfk: Path) -> Path:
    """Twelve seconds in which every frame is another: the number n is a bar of n pixels; somebody speaks."""
    import subprocess  # noqa: PLC0415

    from callsheet.media import ffmpeg  # noqa: PLC0415

    path = tmp_path_factory.mktemp("film") / "film.mp4"
    picture = "color=black:s=320x180:r=25:d=11,geq=lum='if(lt(X,N+4),235,16)':cb=128:cr=128"
    command = [ffmpeg.binary(), "-v", "error", "-f", "lavfi", "-i", picture, "-i", str(jfk), "-shortest"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "100", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, timeout=100)
    return path


def numbers(path: Path) -> list[int]:
    """Which frame of the film each frame is, by the length of its bar."""
    found = []
    for seen in pictures(path, look(path, 0)):
        bar = seen.bgr(320, 180)[90, :, 0] > 128
        found.append(int(bar.sum()) - 4)
    return found


def whole(size: tuple[int, int] = (320, 180)) -> Framing:
    return Framing("whole", 320, 180, "x", (Key(0.0, 0),), 0, size)


def plan(film: Path, cut: Cut, framing: Framing, ass: Path | None = None) -> render.Plan:
    facts = probe(film, need_sound=False)
    return render.Plan(film, look(film, 0), facts.audio_index, cut, framing, ass)


@pytest.mark.parametrize(
    ("pieces", "frames"),
    [
        (((1.0, 50),), [*range(25, 75)]),
        (((6.44, 30), (0.2, 20), (3.0, 13)), [*range(161, 191), *range(5, 25), *range(75, 88)]),
    ],
)
def test_a_clip_holds_exactly_the_frames_of_its_pieces_in_their_order(
    film: Path, tmp_path: Path, pieces: tuple[tuple[float, int], ...], frames: list[int]
) -> None:
    cut = Cut(tuple(Piece(*piece) for piece in pieces), 25.0)
    made = render.render(plan(film, cut, whole()), tmp_path, "clip")
    found = numbers(made.clean)
    assert len(found) == len(frames)
    assert max(abs(a - b) for a, b in zip(found, frames, strict=True)) <= 1
    facts = probe(made.clean)
    assert facts.audio_seconds == pytest.approx(cut.seconds, abs=0.05)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4"]


def test_the_sound_keeps_its_times_where_its_level_is_evened_out(film: Path, tmp_path: Path) -> None:
    cut = Cut((Piece(0.2, 106),), 25.0)
    loud = msgspec.structs.replace(plan(film, cut, whole()), loudness=-9.0)  # peaks leave no room for one gain
    made = render.render(loud, tmp_path, "clip")
    assert probe(made.clean).audio_seconds == pytest.approx(cut.seconds, abs=0.025)  # a packet of AAC has 1024 samples


def test_a_clip_is_as_loud_as_platforms_play_it_and_the_measure_says_so(film: Path, tmp_path: Path) -> None:
    made = render.render(plan(film, on_frames([Stretch(0.0, 7.7)], 25.0), whole()), tmp_path, "clip")
    assert made.loudness == pytest.approx(loudness.TARGET, abs=0.3)
    assert loudness.integrated(film) != pytest.approx(loudness.TARGET, abs=1.0)
    assert made.loudness == loudness.integrated(made.clean)


@pytest.mark.parametrize("sound", [["-f", "lavfi", "-i", "anullsrc"], []], ids=["silent", "no track"])
def test_silence_stays_silence(make: Make, tmp_path: Path, sound: list[str]) -> None:
    picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=3"]
    mute = make("mute.mp4", *picture, *sound, "-t", "3", "-c:v", "libx264", "-preset", "ultrafast")
    pieces = on_frames([Stretch(0.0, 1.2), Stretch(2.0, 2.8)], 25.0)
    made = render.render(plan(mute, pieces, whole()), tmp_path, "mute-clip")
    assert made.loudness is None
    assert probe(made.clean).audio_seconds == pytest.approx(2.0, abs=0.05)


def test_the_window_is_where_it_should_be_at_every_frame(film: Path, tmp_path: Path) -> None:
    keys = (Key(0.0, 0), Key(0.4, 100), Key(1.2, 180, glide=True))
    framing = Framing("faces", 100, 180, "x", keys, 0, (100, 180))
    made = render.render(plan(film, Cut((Piece(4.0, 50),), 25.0), framing), tmp_path, "clip")
    for n, seen in enumerate(pictures(made.clean, look(made.clean, 0))):
        bar = n + 104
        left = 0 if n < 10 else 100 + min(80, round((n / 25 - 0.4) / 0.8 * 80))
        white = int((seen.bgr(100, 180)[90, :, 0] > 128).sum())
        assert white == pytest.approx(min(100, max(0, bar - left)), abs=2), n


def test_two_fields_become_one_frame_without_a_comb(make: Make, jfk: Path, tmp_path: Path) -> None:
    bar = "color=black:s=320x180:r=50,geq=lum='if(lt(mod(X-8*N,160),12),235,16)':cb=128:cr=128"
    woven = (
        "-vf",
        "tinterlace=interleave_top,fieldorder=tff",
        "-c:v",
        "mpeg2video",
        "-q:v",
        "2",
        "-flags",
        "+ilme+ildct",
    )
    source = make("woven.mpg", "-f", "lavfi", "-i", bar, "-i", jfk, *woven, "-t", "2", "-c:a", "mp2", "-ar", "48000")
    looks.graded(source, probe(source), tmp_path / "graded.mp4", lut.built_in("noir"))
    clip = render.render(plan(source, on_frames([Stretch(0.0, 1.2)], 25.0), whole()), tmp_path, "clip")
    for made in (clip.clean, tmp_path / "graded.mp4"):
        for seen in list(pictures(made, look(made, 0)))[2:-2]:
            lines = seen.bgr(320, 180)[20:160, :, 0].astype(float)
            assert np.abs(np.diff(lines, axis=0)).mean() < 4
    assert len(times(tmp_path / "graded.mp4")) == len(times(source))


def test_ten_bits_keep_their_colours_wherever_the_window_is(make: Make, jfk: Path, tmp_path: Path) -> None:
    ten = ("-pix_fmt", "yuv420p10le", "-c:v", "libx264", "-preset", "ultrafast", "-t", "1", "-c:a", "aac")
    source = make("ten.mp4", "-f", "lavfi", "-i", "color=0x808080:s=320x180:r=10", "-i", jfk, *ten)
    framing = Framing("faces", 100, 180, "x", (Key(0.0, 61),), 0, (360, 640))
    made = render.render(plan(source, on_frames([Stretch(0.0, 0.8)], 10), framing), tmp_path, "clip")
    (shown, *_) = pictures(made.clean, look(made.clean, 0))
    np.testing.assert_allclose(shown.bgr(90, 160), 128, atol=4)


def test_captions_are_burned_into_one_version_and_the_other_is_clean(film: Path, tmp_path: Path) -> None:
    words: list[Word] = talk("Ask not what", 0.4, 0.4)
    ass = tmp_path / "o.ass"
    ass.write_text(overlay(words, "highlight", "", (360, 640), 2.0))
    framing = frame(Picture(0, 320, 180, 25.0), "vertical", [Sample(0.0)])
    cut = Cut((Piece(0.0, 50),), 25.0)
    made = render.render(plan(film, cut, framing, ass), tmp_path, "clip")
    assert made.shown is not None
    assert (made.shown.name, made.clean.name, framing.layout) == ("clip.mp4", "clip-clean.mp4", "blurred")
    clean, shown = ([s.bgr(360, 640) for s in pictures(p, look(p, 0))] for p in (made.clean, made.shown))
    assert len(clean) == len(shown) == 50
    changed = [float(np.mean(np.abs(a[400:560].astype(int) - b[400:560]))) for a, b in zip(clean, shown, strict=True)]
    assert max(changed[:8]) < 2  # nothing is said yet
    assert min(changed[12:36]) > 4


def test_the_shipped_font_is_the_one_that_is_used(film: Path, tmp_path: Path) -> None:
    ass = tmp_path / "o.ass"
    ass.write_text(overlay(talk("Ask not", 0.0, 0.4), "classic", "", (320, 180), 1.0))
    made = render.render(plan(film, Cut((Piece(0.0, 25),), 25.0), whole(), ass), tmp_path, "clip")
    assert "OpenSans-ExtraBold" in made.said
    assert "fontselect: failed" not in made.said


def test_the_same_plan_gives_the_same_bytes(film: Path, tmp_path: Path) -> None:
    cut = Cut((Piece(1.0, 25),), 25.0)
    one, other = (render.render(plan(film, cut, whole()), tmp_path, name).clean for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_an_overlay_that_cannot_be_read_fails_and_leaves_nothing(film: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    made = plan(film, Cut((Piece(1.0, 25),), 25.0), whole(), tmp_path / "missing.ass")
    with pytest.raises(MediaError) as caught:
        render.render(made, work, "clip")
    assert caught.value.code == "conversion_failed"
    assert list(work.iterdir()) == []
    bare = msgspec.structs.replace(made, overlay=None)
    assert render.render(bare, work, "clip").clean.name == "clip.mp4"


def test_a_thumbnail_is_a_picture_of_the_clip(film: Path, tmp_path: Path) -> None:
    render.thumbnail(film, 4.0, tmp_path / "t.jpg")
    assert (tmp_path / "t.jpg").read_bytes()[:3] == b"\xff\xd8\xff"


def test_a_letter_that_no_font_has_is_told(film: Path, tmp_path: Path) -> None:
    ass = tmp_path / "o.ass"
    ass.write_text(overlay(talk("odd \U0010fff0 letter", 0.0, 0.3), "classic", "", (320, 180), 1.0))
    made = render.render(plan(film, Cut((Piece(0.0, 25),), 25.0), whole(), ass), tmp_path, "clip")
    assert "fontselect: failed" in made.said
