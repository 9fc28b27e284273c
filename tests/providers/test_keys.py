"""Keys of providers go from the settings to the stages that buy, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from callsheet.actors.stages.paid import provider_settings
from callsheet.actors.stages.worker import _child_spec
from callsheet.config.settings import Settings
from callsheet.media.providers.base import ProviderSettings
from tests.providers.fakes import KEY

PROVIDER_KEYS = ("gemini_key", "fal_key", "deepgram_key", "openai_key", "llm_key")


def test_only_children_of_the_queue_that_buys_are_given_keys(tmp_path: Path) -> None:
    keys: dict[str, Any] = dict.fromkeys(PROVIDER_KEYS, KEY)
    settings = Settings(data=tmp_path, llm_url="http://127.0.0.1:1/v1", llm_model="m", **keys)
    given = {queue: _child_spec(settings, queue, 1) for queue in ("cpu", "io", "gpu")}
    assert {queue: spec.setup.providers.fal_key for queue, spec in given.items()} == {"cpu": "", "io": KEY, "gpu": ""}
    assert {spec.setup.providers.ready for spec in given.values()} == {
        ("deepgram", "fal", "gemini", "llm", "openai"),
    }
    assert KEY.encode() not in msgspec.json.encode((given["cpu"].setup, [dict(s.environment) for s in given.values()]))


def test_a_key_is_shown_nowhere(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, fal_key=KEY)
    assert KEY not in repr(settings) + repr(provider_settings(settings))
    assert provider_settings(settings).ready == ("fal",)


def test_a_language_model_and_an_openai_endpoint_of_ones_own_need_no_key(tmp_path: Path) -> None:
    url = "http://127.0.0.1:11434/v1"
    found = provider_settings(Settings(data=tmp_path, llm_url=url, llm_model="m", openai_url=url))
    assert (found.ready, found.llm_url, found.openai_url) == (("llm", "openai"), url, url)
    assert provider_settings(Settings(data=tmp_path)).ready == ()


def test_what_nobody_has_set_is_the_same_in_the_settings_and_with_the_providers(tmp_path: Path) -> None:
    assert provider_settings(Settings(data=tmp_path)) == ProviderSettings()


def test_half_a_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="llm_url and llm_model go together"):
        Settings(data=tmp_path, llm_model="m")
