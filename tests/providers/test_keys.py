"""Keys of providers go from the settings to the stages that buy, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import msgspec

from callsheet.actors.paid import provider_settings
from callsheet.actors.worker import _child_spec
from callsheet.config.settings import Settings
from tests.providers.fakes import KEY


def test_only_children_of_the_queue_that_buys_are_given_keys(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, fal_key=KEY, gemini_key=KEY)
    given = {queue: _child_spec(settings, queue, 1) for queue in ("cpu", "io", "gpu")}
    assert {queue: spec.setup.providers.fal_key for queue, spec in given.items()} == {"cpu": "", "io": KEY, "gpu": ""}
    assert {spec.setup.providers.ready for spec in given.values()} == {("fal", "gemini")}
    assert KEY.encode() not in msgspec.json.encode((given["cpu"].setup, [dict(s.environment) for s in given.values()]))


def test_a_key_is_shown_nowhere(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, fal_key=KEY)
    assert KEY not in repr(settings) + repr(provider_settings(settings))
    assert provider_settings(settings).ready == ("fal",)
