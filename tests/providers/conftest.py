"""Fake providers, and what it takes to call them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.media.providers import web
from callsheet.media.providers.base import ProviderSettings
from tests.providers.fakes import KEY, FakeFal, FakeGemini, serving


@pytest.fixture
def fal() -> Iterator[FakeFal]:
    server = FakeFal()
    with serving(server):
        yield server


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    server = FakeGemini()
    with serving(server):
        yield server


@pytest.fixture
def settings(fal: FakeFal, gemini: FakeGemini) -> ProviderSettings:
    return ProviderSettings(
        gemini_key=KEY,
        gemini_url=gemini.url,
        fal_key=KEY,
        fal_queue_url=fal.url,
        fal_rest_url=fal.url,
        poll_seconds=0.005,
        call_seconds=60.0,
        ready=("fal", "gemini"),
    )


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.01)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"frames" * 1000)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder / "paid"
