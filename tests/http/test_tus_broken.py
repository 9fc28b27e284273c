"""Uploads over connections that break off, fall silent, or meet another one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.http.service import Api
from tests.http.tus import DATA, Slow, begin, code, digest, offset, patch, stored, unlocked
from tests.waiting import eventually


@pytest.fixture
def slow(api: Api) -> Iterator[Callable[..., Slow]]:
    made: list[Slow] = []

    def make(*args: Any, **headers: str) -> Slow:
        made.append(Slow(api, *args, **headers))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def test_what_came_before_the_connection_broke_is_kept(
    client: httpx.Client, api: Api, slow: Callable[..., Slow]
) -> None:
    path = begin(client)
    sender = slow(path, 0, len(DATA))
    sender.socket.sendall(DATA[:2_500_000])
    kept = eventually(lambda: offset(client, path))
    sender.socket.close()
    eventually(lambda: unlocked(api, path))
    after = offset(client, path)
    assert kept <= after <= 2_500_000
    assert stored(api, path) == DATA[:after]
    assert patch(client, path, after, DATA[after:]).status_code == 204
    assert stored(api, path) == DATA


def test_what_cannot_be_checked_any_more_is_not_kept(client: httpx.Client, api: Api, slow: Callable[..., Slow]) -> None:
    path = begin(client)
    sender = slow(path, 0, len(DATA), **{"Upload-Checksum": digest("sha1", DATA)})
    sender.socket.sendall(DATA[:1_500_000])
    folder = api.data / "store" / "uploads"
    eventually(lambda: list(folder.glob(f"*/{path.rpartition('/')[2]}/aside-*")))
    sender.socket.close()
    eventually(lambda: not list(folder.glob(f"*/{path.rpartition('/')[2]}/aside-*")))
    assert offset(client, path) == 0


def test_two_at_once_do_not_mix_and_the_second_is_told(client: httpx.Client, slow: Callable[..., Slow]) -> None:
    path = begin(client)
    sender, stop = slow(path, 0, len(DATA)), threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for at in range(2_000):
                sender.socket.sendall(DATA[at : at + 1])
                if stop.wait(0.05):
                    return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        eventually(lambda: locked(client, path))
    finally:
        stop.set()
        dripping.join()


def locked(client: httpx.Client, path: str) -> bool:
    """Whether the upload is somebody else's at the moment; it waits for that one as long as the server does. What is
    asked changes nothing where it is not."""
    return code(patch(client, path, len(DATA), b"")) == (423, "upload_locked")


def test_a_connection_that_says_nothing_more_is_overtaken(client: httpx.Client, slow: Callable[..., Slow]) -> None:
    path = begin(client)
    sender = slow(path, 0, len(DATA))
    sender.socket.sendall(DATA[:100_000])  # and then it is silent, though it is open: a telephone out of reach
    eventually(lambda: offset(client, path) == 100_000)
    assert patch(client, path, 100_000, DATA[100_000:]).status_code == 204
    sender.socket.sendall(b"late")
    assert b" 409 " in sender.answer().partition(b"\r\n")[0]
    assert offset(client, path) == len(DATA)


def test_a_slow_connection_goes_on_after_a_silence(api: Api, client: httpx.Client, slow: Callable[..., Slow]) -> None:
    path = begin(client, 10)
    sender = slow(path, 0, 10)
    sender.socket.sendall(b"hello")
    eventually(lambda: offset(client, path) == 5)  # written because nothing more came: it is let go
    sender.socket.sendall(b"world")
    assert b" 204 " in sender.answer().partition(b"\r\n")[0]
    assert stored(api, path) == b"helloworld"


def test_a_lock_dies_with_its_process(make_api: Callable[..., Api]) -> None:
    api = make_api()
    with httpx.Client(base_url=api.url, timeout=60) as client:
        path = begin(client)
        sender = Slow(api, path, 0, len(DATA))
        sender.socket.sendall(DATA[:2_000_000])
        eventually(lambda: offset(client, path) > 0)
        before = offset(client, path)
    api.kill()
    sender.socket.close()
    again = make_api(data=str(api.data))
    with httpx.Client(base_url=again.url, timeout=60) as client:
        assert offset(client, path) >= before
        at = offset(client, path)
        assert patch(client, path, at, DATA[at:]).status_code == 204
        assert stored(again, path) == DATA
