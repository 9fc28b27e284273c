"""Getting a file from an address: whole, within bounds, from nowhere else."""

from __future__ import annotations

import errno
import hashlib
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.media import download as downloading
from callsheet.media import limits
from callsheet.media.download import Download, download
from callsheet.media.errors import MediaError
from tests.media.source import DATA, PART, Source


@pytest.fixture
def source() -> Iterator[Source]:
    before = limits.current()
    with Source() as source:
        limits.configure(limits.Limits(bytes=2_000_000, addresses=frozenset({source.where})))
        yield source
    limits.configure(before)


def failure(source: Source, how: str, path: Path) -> tuple[str, bool]:
    with pytest.raises(MediaError) as caught:
        download(source.url(how), path)
    assert "127.0.0.1" not in caught.value.message
    return caught.value.code, caught.value.retryable


def test_a_file_comes_whole_with_its_digest_and_tells_how_far_it_is(source: Source, tmp_path: Path) -> None:
    told: list[float] = []
    found = download(source.url("whole"), tmp_path / "a", lambda fraction, _: told.append(fraction))
    assert found == Download(len(DATA), hashlib.sha256(DATA).hexdigest(), "audio/wav")
    assert (tmp_path / "a").read_bytes() == DATA
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_broken_connection_is_gone_on_with_where_it_broke(source: Source, tmp_path: Path) -> None:
    log: list[str] = []
    found = download(source.url("cut"), tmp_path / "a", log=log.append)
    assert found.sha256 == hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "a").read_bytes() == DATA
    assert [wanted for _, wanted in source.asked] == [None, *(f"bytes={n * PART}-" for n in (1, 2, 3))]
    assert log == [f"It broke off after {n * PART} bytes: going on." for n in (1, 2, 3)]


def test_a_rest_that_comes_in_slices_is_put_together(source: Source, tmp_path: Path) -> None:
    assert download(source.url("in-slices"), tmp_path / "a").sha256 == hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_server_without_ranges_begins_again(source: Source, tmp_path: Path) -> None:
    assert download(source.url("cut-without-ranges"), tmp_path / "a").bytes == len(DATA)
    assert (tmp_path / "a").read_bytes() == DATA
    assert [wanted for _, wanted in source.asked] == [None, None, None]


def test_a_file_that_changes_meanwhile_is_the_new_one_and_no_mixture(source: Source, tmp_path: Path) -> None:
    found = download(source.url("changing"), tmp_path / "a")
    assert found.sha256 == hashlib.sha256(DATA[::-1]).hexdigest()
    assert (tmp_path / "a").read_bytes() == DATA[::-1]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("another-part", ("fetch_failed", True)),
        ("dead", ("fetch_failed", True)),
        ("longer", ("fetch_failed", True)),
        ("busy", ("fetch_failed", True)),
        ("missing", ("fetch_failed", False)),
        ("packed", ("fetch_failed", False)),
        ("away", ("fetch_failed", False)),
        ("huge", ("upload_too_large", False)),
        ("endless", ("upload_too_large", False)),
        ("empty", ("empty_file", False)),
    ],
)
def test_a_server_that_misbehaves_is_told_as(source: Source, tmp_path: Path, how: str, told: tuple[str, bool]) -> None:
    assert failure(source, how, tmp_path / "a") == told
    assert (tmp_path / "a").stat().st_size <= 2_000_000
    assert not source.canary_was_touched()


def test_a_redirect_is_named(source: Source, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="redirect"):
        download(source.url("away"), tmp_path / "a")


def test_no_proxy_of_the_environment_is_asked(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{source.canary_port}")
    assert download(source.url("whole"), tmp_path / "a").bytes == len(DATA)
    assert not source.canary_was_touched()


def test_silence_is_not_waited_for(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(downloading, "RESUMES", 1)
    assert failure(source, "hanging", tmp_path / "a") == ("fetch_failed", True)


def test_a_drip_is_not_waited_for(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "GRACE_SECONDS", 0.2)
    assert failure(source, "dripping", tmp_path / "a") == ("fetch_failed", True)


def test_a_full_disk_has_its_name(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    assert failure(source, "whole", tmp_path / "a") == ("storage_full", True)


def test_what_nobody_has_allowed_is_never_connected_to(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = source.canary_port
    asked: list[str] = []

    def answer(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    for host in ("127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]", "video.example"):
        with pytest.raises(MediaError) as caught:
            download(f"http://{host}:{port}/", tmp_path / "a")
        assert (caught.value.code, caught.value.retryable) == ("url_forbidden", False)
    assert asked == ["video.example"]  # only a name whose form is good is looked up
    assert not source.canary_was_touched()


def test_a_name_that_changes_its_mind_gains_nothing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good when it is first looked up, this machine when it is looked up again for the next connection."""
    addresses = iter(["203.0.114.1", "127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (next(addresses), source.canary_port))])
    monkeypatch.setattr(downloading, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(downloading._Transfer, "attempt", lambda *_: False)
    with pytest.raises(MediaError) as caught:
        download(f"http://video.example:{source.canary_port}/", tmp_path / "a")
    assert caught.value.code == "url_forbidden"
    assert not source.canary_was_touched()
