"""Settings are checked together at start-up, and the page about them is fresh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from redis.connection import parse_url

from callsheet import StageContext, StageOutput, pipeline, stage
from callsheet.actors.client import IDEMPOTENCY_SECONDS
from callsheet.actors.journal import KNOWN_SECONDS
from callsheet.config.checks import KEY_SECONDS
from callsheet.config.docs import page
from callsheet.config.settings import Settings, SettingsError, environment, load_settings

ROOT = Path(__file__).parents[2]


def test_the_defaults_stand_together() -> None:
    settings = load_settings()
    assert settings.address == "127.0.0.1:8080"
    assert settings.data == Path.cwd() / "var"
    assert settings.models == Path.cwd() / "var" / "models"


def test_a_stage_of_a_pipeline_by_any_name_that_one_may_have_can_be_run_each_time() -> None:
    declared = pipeline("my-own.words_2", stage(_count, name="count"))
    name = f"{declared.name}.{declared.stages[0].spec.name}"
    assert load_settings(no_reuse=f"{name},*").no_reuse == (name, "*")


def _count(_: StageContext) -> StageOutput:
    return StageOutput()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bind": "0.0.0.0", "auth": "off"}, "take auth=keys, or bind=127.0.0.1"),
        ({"bind": "192.168.1.7", "auth": "off"}, "take auth=keys"),
        ({"bind": "example.org", "auth": "off"}, "take auth=keys"),
        ({"auth": "maybe"}, "CALLSHEET_AUTH"),
        ({"rate_per_second": -1.0}, "CALLSHEET_RATE_PER_SECOND"),
        ({"quota_bytes": "1MiB"}, "never fits"),
        ({"max_active_jobs": 11, "max_open_jobs": 10}, "never accepted"),
        ({"tombstone_seconds": 86_399.0}, "an idempotency key is known"),
        ({"heartbeat_seconds": 5.0}, "at least twice"),
        ({"worker_lost_after_seconds": 2.0}, "at least twice"),
        ({"lease_seconds": 0.5}, "CALLSHEET_LEASE_SECONDS"),
        ({"redis_url": "redis://a:1", "broker_url": "redis://a:1"}, "of their own"),
        ({"redis_url": "http://a"}, "must start with one of redis://"),
        ({"host_capacity": 10}, "threads would starve"),
        ({"reply_timeout": 60.0}, "longer than 30 s"),
        ({"pipelines": ""}, "nothing to run"),
        ({"pipelines": "callsheet.pipelines.transcribe"}, "package.module:attribute"),
        ({"port": 0}, "CALLSHEET_PORT"),
        ({"retention_seconds": float("nan")}, "CALLSHEET_RETENTION_SECONDS"),
        ({"retention_seconds": 1e12}, "CALLSHEET_RETENTION_SECONDS"),  # no job could say when it expires, and so end
        ({"max_upload_bytes": "a lot"}, "CALLSHEET_MAX_UPLOAD_BYTES"),
        ({"log_level": "loud"}, "CALLSHEET_LOG_LEVEL"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**changes)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_idempotency_key_is_known_for_longer_than_the_job_that_it_named() -> None:
    assert (IDEMPOTENCY_SECONDS, KNOWN_SECONDS) == (KEY_SECONDS, KEY_SECONDS)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_addresses_are_accepted(bind: str) -> None:
    assert load_settings(bind=bind).bind == bind


@pytest.mark.parametrize(
    ("auth", "bind", "needed"),
    [
        ("auto", "127.0.0.1", False),
        ("auto", "::1", False),
        ("auto", "0.0.0.0", True),
        ("auto", "::", True),
        ("auto", "example.org", True),
        ("keys", "127.0.0.1", True),
        ("off", "127.0.0.1", False),
    ],
)
def test_keys_are_needed_beyond_loopback_and_where_they_are_asked_for(auth: str, bind: str, needed: bool) -> None:
    assert load_settings(auth=auth, bind=bind).needs_keys is needed


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CALLSHEET_PORT", "9000")
    monkeypatch.setenv("CALLSHEET_DATA", str(tmp_path))
    monkeypatch.setenv("CALLSHEET_MAX_UPLOAD_BYTES", "2GiB")
    monkeypatch.setenv("CALLSHEET_PIPELINES", "a.b:c, d.e:f")
    monkeypatch.setenv("CALLSHEET_REDIS_URL", "")
    settings = load_settings()
    assert (settings.port, settings.data, settings.max_upload_bytes) == (9000, tmp_path, 2 * 1024**3)
    assert settings.pipelines == ("a.b:c", "d.e:f")
    assert settings.redis_url is None


def test_a_misspelt_variable_is_an_error_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_PROT", "9000")
    with pytest.raises(SettingsError, match=r"CALLSHEET_PROT is not a setting; did you mean CALLSHEET_PORT\?"):
        load_settings()


def test_a_child_sees_the_changed_settings() -> None:
    script = "from callsheet.config.settings import load_settings; print(load_settings().port)"
    child = subprocess.run(
        [sys.executable, "-c", script], env=environment(port="9001"), capture_output=True, text=True, check=True
    )
    assert child.stdout == "9001\n"


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_an_address_that_a_single_role_needs_is_asked_for_by_name() -> None:
    with pytest.raises(SettingsError, match="CALLSHEET_REDIS_URL is not set"):
        _ = load_settings().journal
    assert load_settings(redis_url="redis://a", broker_url="redis://b").broker == "redis://b"


@pytest.mark.parametrize(
    ("journal", "broker"),
    [
        ("redis://a", "redis://a/1"),
        ("redis://a:7000/0", "redis://a:7000/1"),
        ("rediss://:p%40ss@a/4", "rediss://:p%40ss@a/5"),
        ("redis://a/2?protocol=2", "redis://a/3?protocol=2"),
        ("redis://a/2?db=3", "redis://a/2?db=4"),
        ("unix:///run/a.sock", "unix:///run/a.sock?db=1"),
        ("unix:///run/a.sock?db=1&password=x", "unix:///run/a.sock?db=2&password=x"),
    ],
)
def test_one_address_is_enough_for_a_role(journal: str, broker: str) -> None:
    """The queues are in the next database then, as redis-py reads addresses."""
    settings = load_settings(redis_url=journal)
    assert settings.broker == broker
    one, next_one = (parse_url(url) for url in (journal, broker))  # type: ignore[no-untyped-call]
    assert {**one, "db": one.get("db", 0) + 1} == next_one


def test_a_password_does_not_show_in_the_settings() -> None:
    assert "hunter2" not in repr(load_settings(redis_url="redis://:hunter2@db"))


def test_the_page_about_settings_is_fresh() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run `make docs`"
