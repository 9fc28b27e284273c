"""A file is taken for what it is, or refused with the reason."""

from __future__ import annotations

import struct
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsheet.media import containers, ffmpeg
from callsheet.media.containers import HEAD, why_no_media
from callsheet.media.errors import MediaError
from callsheet.media.limits import Limits
from callsheet.media.probe import AudioFacts, MediaFacts, VideoFacts, probe
from tests.canary import Canary
from tests.media import hostile
from tests.media.conftest import Make
from tests.media.hostile import SCRIPTS
from tests.waiting import eventually

KNOWN_CODES = {
    *("empty_file", "media_too_large", "unsupported_container", "media_unreadable", "no_audio_stream"),
    *("unsupported_codec", "truncated_file", "media_too_short"),
}
CONTAINERS = [f"a.{kind}" for kind in ("wav", "flac", "mp3", "ogg", "aac", "aiff", "caf", "au", "w64")]
CONTAINERS += [f"a.{kind}" for kind in ("mp4", "mkv", "ts", "avi", "flv", "asf")]
TONE = ("-f", "lavfi", "-i", "sine=440:duration=4")
PICTURE = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=4")


def code_of(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(MediaError) as caught:
        probe(path, limits)
    assert str(path.parent) not in str(caught.value)
    assert not caught.value.retryable
    return caught.value.code


def cut(path: Path, share: float) -> Path:
    """The first share of a file."""
    whole = path.read_bytes()
    target = path.with_name(f"cut-{path.name}")
    target.write_bytes(whole[: int(len(whole) * share)])
    return target


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_medium_is_taken_for_something_else(make: Make, name: str) -> None:
    assert why_no_media(make(name, *TONE).read_bytes()[:HEAD]) is None


def test_bytes_that_may_be_anything_are_looked_into_later() -> None:
    for head in (bytes(2000), b"#!AMR\n<text that is none>", b"\xff\xfbtext", bytes(range(256))):
        assert why_no_media(head) is None


def test_a_flac_file_tells_its_container_length_and_track(jfk: Path) -> None:
    assert probe(jfk) == MediaFacts(
        container="flac",
        media_type="audio/flac",
        bytes=1_152_693,
        duration=11.0,
        audio=(AudioFacts(index=0, codec="flac", rate=44_100, channels=2),),
        audio_index=0,
        audio_seconds=11.0,
    )


def test_a_video_tells_its_picture_too(make: Make) -> None:
    facts = probe(make("v.mp4", *PICTURE, *TONE))
    assert facts.media_type == "video/mp4"
    assert facts.video == VideoFacts(index=0, codec="h264", width=320, height=180, fps=25.0)
    assert facts.speech_track.index == 1


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.wav", "audio/wav"),
        ("a.mp3", "audio/mpeg"),
        ("a.m4a", "audio/mp4"),
        ("a.aac", "audio/aac"),
        ("a.ogg", "audio/ogg"),
        ("a.opus", "audio/ogg"),
        ("a.aiff", "audio/aiff"),
        ("a.mka", "audio/x-matroska"),
        ("a.webm", "audio/webm"),
        ("a.ts", "audio/mp2t"),
        ("a.avi", "audio/x-msvideo"),
        ("a.flv", "audio/x-flv"),
        ("a.wma", "audio/x-ms-asf"),
        ("a.caf", "audio/x-caf"),
        ("a.mov", "audio/mp4"),
    ],
)
def test_common_containers_are_taken_whatever_they_are_called(make: Make, name: str, media_type: str) -> None:
    facts = probe(make(name, *TONE).rename(make(name, *TONE).with_name("upload")))
    assert facts.media_type == media_type
    assert facts.duration == pytest.approx(4.0, abs=0.15)


def test_the_default_track_is_the_one_to_work_on(make: Make) -> None:
    path = make("two.mkv", *TONE, "-map", "0:a", "-map", "0:a", "-disposition:a:0", "0", "-disposition:a:1", "default")
    assert probe(path).audio_index == 1


def test_an_empty_file_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    assert code_of(tmp_path / "a.mp3") == "empty_file"


@pytest.fixture
def canary(tmp_path: Path, austen: Path) -> Iterator[Canary]:
    with Canary(tmp_path, austen.read_bytes()) as canary:
        yield canary


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_names_other_files_is_refused_and_nothing_is_opened(
    tmp_path: Path, canary: Canary, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(hostile.scripts(canary)[script])
    canary.touched()
    assert code_of(upload) == "unsupported_container"
    if not script.startswith("avi"):  # which is sound and picture to who does not look for the playlist
        with pytest.raises(MediaError, match="conversion_failed"):
            ffmpeg.run([ffmpeg.Input(upload)], [], tmp_path / "out.wav")
    assert canary.touched() == []


@pytest.mark.parametrize("script", hostile.ARMED)
def test_without_our_guard_the_scripts_are_obeyed(tmp_path: Path, canary: Canary, script: str) -> None:
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(hostile.scripts(canary)[script])
    canary.touched()
    *demuxer, how = hostile.ARMED[script]
    command = [ffmpeg.binary(), "-nostdin", "-protocol_whitelist", "file,http,tcp,data,crypto", *demuxer]
    command += ["-i", str(upload), "-t", "1", "-f", "null", "-"]
    touched: list[str] = []

    def obeyed() -> bool:
        touched.extend(canary.touched())
        return how in touched

    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as obeying:
        try:
            eventually(obeyed)
        finally:
            obeying.kill()


def test_what_is_plainly_no_media_is_told_by_its_first_bytes(canary: Canary) -> None:
    for name, content in hostile.scripts(canary).items():
        assert why_no_media(content[:HEAD]), name
    for text in (b"x", b"Not a sound.\n", "Zwölf Töne".encode(), ("ä" * 3000).encode()[:4095]):
        assert why_no_media(text) == "it is a text, not audio or video"


def test_every_script_is_tried(canary: Canary) -> None:
    assert set(SCRIPTS) == set(hostile.scripts(canary)) >= set(hostile.ARMED)


@pytest.mark.parametrize("what", hostile.TOO_LARGE)
def test_what_is_too_large_to_look_into_is_refused(tmp_path: Path, what: str) -> None:
    make, name, code = hostile.TOO_LARGE[what]
    make(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 20_000_000
    assert code_of(tmp_path / name) == code


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libav would make of it is not asked."""
    hostile.bomb(tmp_path / "a.mov")
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("it was opened"))
    assert code_of(tmp_path / "a.mov") == "media_too_large"


def test_an_index_that_is_packed_and_small_is_no_bomb(tmp_path: Path) -> None:
    hostile.bomb(tmp_path / "a.mov", 1 << 20)
    assert code_of(tmp_path / "a.mov") == "media_unreadable"  # there is no track in it


def test_no_demuxer_that_opens_other_files_is_allowed() -> None:
    openers = {"hls", "concat", "dash", "sdp", "image2", "image2pipe", "imf", "rtp", "rtsp", "lavfi", "vobsub", "tee"}
    assert openers.isdisjoint(containers.ALLOWED)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.wav", "a.mkv", "a.aiff", "fast.mp4", "a.avi"])
def test_a_file_that_is_cut_off_is_named_so(make: Make, name: str, share: float) -> None:
    picture = PICTURE if name in {"a.mkv", "fast.mp4", "a.avi"} else ()
    options = ("-movflags", "+faststart") if name == "fast.mp4" else ()
    assert code_of(cut(make(name, *picture, *TONE, *options), share)) == "truncated_file"


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.ts", "a.mp4"])
def test_a_piece_of_a_longer_recording_is_whole_and_as_long_as_it_is(make: Make, name: str) -> None:
    coded = ("-c:v", "libvpx", "-b:v", "200k", "-c:a", "libopus") if name == "a.webm" else ("-c:a", "aac")
    source = make(name, *PICTURE, *TONE, *coded, "-output_ts_offset", "60")
    assert probe(source).duration == pytest.approx(4.0, abs=0.15)
    data = source.read_bytes()
    if name in ("a.mkv", "a.webm"):
        source.write_bytes(data[: len(data) // 2])
        assert code_of(source) == "truncated_file"


@pytest.mark.parametrize("name", ["a.mp4", "a.m4a"])
def test_an_mp4_that_lost_its_index_cannot_be_read(make: Make, name: str) -> None:
    assert code_of(cut(make(name, *TONE), 0.5)) == "media_unreadable"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.mp4", "a.ogg", "a.mkv"])
def test_a_file_of_which_only_the_first_bytes_came_is_refused(make: Make, name: str) -> None:
    path = make(name, *TONE)
    path.write_bytes(path.read_bytes()[:40])
    assert code_of(path) in {"media_unreadable", "truncated_file"}


def test_a_wav_whose_data_is_shorter_than_its_header_says_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 160_000)
    header = bytearray(path.read_bytes())
    header[40:44] = struct.pack("<I", 10 * 320_000)
    path.write_bytes(header)
    assert code_of(path) == "truncated_file"


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_claims_no_length_and_is_taken(make: Make, length: int) -> None:
    path = make("a.wav", *TONE, "-bitexact")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", length)
    path.write_bytes(content)
    assert probe(path).duration == pytest.approx(4.0, abs=0.01)


def test_a_video_without_sound_is_refused(make: Make) -> None:
    assert code_of(make("v.mp4", *PICTURE)) == "no_audio_stream"


def test_half_a_second_is_too_short(make: Make) -> None:
    assert code_of(make("a.wav", "-f", "lavfi", "-i", "sine=440:duration=0.5")) == "media_too_short"


def test_more_than_four_hours_is_too_long(make: Make) -> None:
    assert Limits().max_seconds == 4 * 3600
    assert code_of(make("a.flac", *TONE), Limits(max_seconds=3.9)) == "media_too_large"


def test_a_file_larger_than_the_limit_is_refused(jfk: Path) -> None:
    assert code_of(jfk, Limits(bytes=1_000_000)) == "media_too_large"


@pytest.mark.parametrize("name", ["many.mkv", "many.mp4"])
def test_forty_streams_are_too_many(make: Make, name: str) -> None:
    maps = [part for _ in range(40) for part in ("-map", "0:a")]
    assert code_of(make(name, *TONE, *maps, "-c:a", "aac", "-t", "1.5")) == "media_too_large"


def test_cover_art_makes_no_video(make: Make) -> None:
    cover = make("cover.png", "-f", "lavfi", "-i", "color=size=64x64", "-frames:v", "1")
    path = make("a.mp3", *TONE, "-i", cover, "-map", "0:a", "-map", "1:v", "-disposition:v", "attached_pic")
    assert probe(path).video is None


@pytest.fixture(params=["a.wav", "a.flac", "a.mp3", "a.mp4", "a.mkv", "a.ogg"])
def whole(make: Make, request: pytest.FixtureRequest) -> Path:
    """A short, sound file of one of the common kinds."""
    return make(request.param, "-f", "lavfi", "-i", "sine=440:duration=1.5")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), min_size=1, max_size=5))
def test_a_damaged_file_gives_facts_or_a_named_reason(whole: Path, damage: list[tuple[float, bytes]]) -> None:
    content = bytearray(whole.read_bytes())
    for share, noise in damage:
        at = int(share * (len(content) - 1))
        content[at : at + len(noise)] = noise
    damaged = whole.with_name("damaged")
    damaged.write_bytes(content)
    assert outcome(damaged) in KNOWN_CODES | {"taken"}


def outcome(path: Path) -> str:
    try:
        probe(path)
    except MediaError as error:
        return error.code
    return "taken"
