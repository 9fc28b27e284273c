"""Sound reaches recognition at 16 kHz, with the times of the source, or with a reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callsheet.media import audio
from callsheet.media.errors import MediaError
from callsheet.media.probe import probe
from tests.media.conftest import Make

TONE = ("-f", "lavfi", "-i", "sine=440:duration=4")
PICTURE = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=6")


def convert(path: Path, target: Path) -> float:
    return audio.to_speech_wav(path, probe(path), target)


def first_sound(path: Path) -> float:
    """Seconds until the first sample that is louder than a tenth of the loudest."""
    samples = np.abs(audio.read_wav(path))
    return float(np.argmax(samples > samples.max() / 10)) / audio.RATE


def test_the_wav_is_as_long_as_the_track(jfk: Path, tmp_path: Path) -> None:
    assert convert(jfk, tmp_path / "s.wav") == 11.0
    assert len(audio.read_wav(tmp_path / "s.wav")) == 176_000


def test_a_film_without_sound_is_silent_to_its_end(make: Make, tmp_path: Path) -> None:
    film = make("film.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=5", "-c:v", "libx264")
    target = tmp_path / "s.wav"
    assert audio.to_speech_wav(film, probe(film, need_sound=False), target) == pytest.approx(5.0, abs=0.01)
    assert not audio.read_wav(target).any()


def test_a_track_that_begins_late_keeps_its_place_against_the_picture(make: Make, tmp_path: Path) -> None:
    path = make("late.mp4", *PICTURE, "-itsoffset", "1.5", *TONE)
    convert(path, tmp_path / "s.wav")
    assert first_sound(tmp_path / "s.wav") == pytest.approx(1.5, abs=0.05)


def test_a_gap_in_the_track_is_kept_as_silence(make: Make, tmp_path: Path) -> None:
    gap = "aselect='lt(t,1)+gte(t,3)'"
    path = make("gap.mkv", *TONE, "-af", gap, "-c:a", "pcm_s16le")
    assert convert(path, tmp_path / "s.wav") == pytest.approx(4.0, abs=0.1)
    samples = audio.read_wav(tmp_path / "s.wav", 24_000, 40_000)
    assert float(np.abs(samples).max()) == 0.0


def test_channels_that_cancel_each_other_out_are_heard(jfk: Path, make: Make, tmp_path: Path) -> None:
    convert(jfk, tmp_path / "plain.wav")
    crossed = make("crossed.flac", "-i", jfk, "-af", "pan=stereo|c0=c0|c1=-0.98*c0")
    assert convert(crossed, tmp_path / "s.wav") == 11.0
    heard, plain = (audio.read_wav(tmp_path / name) for name in ("s.wav", "plain.wav"))
    assert np.corrcoef(heard, plain)[0, 1] > 0.99
    assert np.abs(heard).max() > np.abs(plain).max() / 2
    hushed = make("hushed.flac", "-i", jfk, "-af", "volume=-50dB", "-sample_fmt", "s32")
    convert(hushed, tmp_path / "h.wav")
    assert np.corrcoef(audio.read_wav(tmp_path / "h.wav"), plain)[0, 1] > 0.9  # quiet is not crossed


def test_sound_that_does_not_decode_is_no_success(make: Make, tmp_path: Path) -> None:
    path = make("a.mkv", *TONE, "-c:a", "flac")
    content = bytearray(path.read_bytes())
    content[2000:] = bytes(b ^ 0x55 if i % 3 == 0 else b for i, b in enumerate(content[2000:]))
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        convert(path, tmp_path / "s.wav")
    assert caught.value.code in {"media_unreadable", "truncated_file", "conversion_failed"}


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac", "libmp3lame", "aac"]
)
def test_original_samples_are_on_a_scale_of_one_in_every_format(make: Make, codec: str) -> None:
    left_and_right = "aevalsrc=0.5*sin(2*PI*400*t)|0.25*sin(2*PI*400*t):sample_rate=48000:duration=2"
    path = make("a.mka", "-f", "lavfi", "-i", left_and_right, "-c:a", codec)
    blocks = np.concatenate(list(audio.original_blocks(path, 0)), axis=1)
    assert blocks.shape[0] == 2
    power = blocks[:, 4800:-4800].std(axis=1)  # not the peak, which lossy codecs shift; LAME takes 5 % off
    assert power * np.sqrt(2) == pytest.approx([0.5, 0.25], rel=0.06)


def test_original_samples_come_in_bounded_blocks(make: Make) -> None:
    path = make("a.flac", "-f", "lavfi", "-i", "anullsrc=sample_rate=48000", "-t", "60")
    sizes = [block.shape[1] for block in audio.original_blocks(path, 0)]
    assert sum(sizes) == 60 * 48_000
    assert max(sizes) < 2 * audio.BLOCK


def test_samples_that_are_no_numbers_are_taken_as_silence(make: Make) -> None:
    path = make("a.wav", *TONE, "-c:a", "pcm_f32le", "-bitexact")
    content = bytearray(path.read_bytes())
    content[-8:] = np.array([np.nan, np.inf], "<f4").tobytes()
    path.write_bytes(content)
    block = list(audio.original_blocks(path, 0))[-1]
    assert block[0, -2:].tolist() == [0.0, 1.0]


def test_a_part_of_a_wav_is_read_without_the_rest(jfk: Path, tmp_path: Path) -> None:
    convert(jfk, tmp_path / "s.wav")
    whole = audio.read_wav(tmp_path / "s.wav")
    assert np.array_equal(audio.read_wav(tmp_path / "s.wav", 16_000, 20_000), whole[16_000:20_000])
    assert np.array_equal(np.concatenate(list(audio.wav_blocks(tmp_path / "s.wav", 7_000))), whole)
