"""Settings: every knob of every role, read from the environment (`CALLSHEET_…`) here and nowhere else."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "CALLSHEET_"
TEST_PREFIX = "CALLSHEET_TEST_"
REDIS_SCHEMES = ("redis", "rediss", "unix")


class SettingsError(Exception):
    """The settings contradict themselves or the machine. The message is one line that says what to change."""


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)))


def _half_the_cores() -> int:
    return max(1, _cores() // 2)


def _redis_address(url: str | None) -> str | None:
    if url is not None and urlsplit(url).scheme not in REDIS_SCHEMES:
        raise ValueError(f"must start with one of {', '.join(s + '://' for s in REDIS_SCHEMES)}")
    return url


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _comma_separated(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _pipeline_reference(name: str) -> str:
    if not re.fullmatch(r"[\w.]+:[\w.]+", name):
        raise ValueError(f"{name!r} is not of the form package.module:attribute")
    return name


Folder = Annotated[Path, AfterValidator(_absolute)]
RedisUrl = Annotated[str | None, BeforeValidator(_none_if_empty), AfterValidator(_redis_address)]
Names = Annotated[
    tuple[Annotated[str, AfterValidator(_pipeline_reference)], ...],
    NoDecode,
    BeforeValidator(_comma_separated),
]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Slots = Annotated[int, Field(ge=0)]
Size = Annotated[ByteSize, Field(gt=0)]
MIB = 1024 * 1024
DAY = 86_400.0


class Settings(BaseSettings):
    """What one role needs to know. Built once per process, by `load_settings()`, and never changed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    # Where it listens and where it keeps things
    bind: str = Field(
        "127.0.0.1",
        description="Address the API listens on. Loopback only: there are no API keys yet.",
    )
    port: int = Field(8080, ge=1, le=65535, description="Port the API listens on.")
    data: Folder = Field(
        Path("var"),
        description="Folder for everything that is kept: uploads, artifacts, embedded Redis.",
    )
    redis_url: RedisUrl = Field(
        None,
        repr=False,
        description="Redis of mailboxes and journals. Unset: `callsheet up` starts a private one.",
    )
    broker_url: RedisUrl = Field(
        None,
        repr=False,
        description="Redis of the work queues; needs no durability. Unset: `callsheet up` starts a private one.",
    )
    models_folder: Folder | None = Field(
        None,
        description="Folder of recognition models. Unset: `models` in the data folder.",
    )

    # The API
    api_workers: Count = Field(2, description="Processes that answer HTTP.")
    max_upload_bytes: Size = Field(
        ByteSize(500 * MIB),
        description="Largest upload; more is answered 413. Takes `500MiB` too.",
    )
    min_free_bytes: Size = Field(
        ByteSize(256 * MIB),
        description="Free room on the data folder's disk below which uploads are answered 507.",
    )
    reply_timeout: Seconds = Field(
        2.0,
        description="How long a request waits for the job's owner before it answers 202.",
    )
    feed_ping_seconds: Seconds = Field(15.0, description="Silence on a live feed after which a ping is sent.")
    graceful_seconds: Seconds = Field(5.0, description="How long the API may finish open requests when it is stopped.")

    # The host of job actors
    partitions: int = Field(
        16,
        ge=1,
        le=1024,
        description="Mailboxes the jobs are spread over. Fixed at the first start of a journal.",
    )
    lease_seconds: Seconds = Field(
        5.0,
        ge=1.0,
        description="How long a host owns a partition without renewing its lease.",
    )
    host_pool_threads: Count = Field(
        64,
        description="Threads the job actors share; also the number of commits that travel together.",
    )
    host_capacity: Count = Field(
        4096,
        description="Most messages a host holds in memory before it stops reading mailboxes.",
    )
    idle_seconds: Seconds = Field(30.0, description="How long an idle job actor stays in memory.")
    retention_seconds: Seconds = Field(7 * DAY, description="How long a finished job and its artifacts are kept.")
    tombstone_seconds: Seconds = Field(7 * DAY, description="How long an expired job is remembered as such.")

    # The workers
    cpu_concurrency: Slots = Field(
        default_factory=_half_the_cores,
        description="Stages of the queue `cpu` at once. Default: half the cores, at least 1.",
    )
    io_concurrency: Slots = Field(4, description="Stages of the queue `io` at once.")
    gpu_concurrency: Slots = Field(0, description="Stages of the queue `gpu` at once; 0 where there is none.")
    heartbeat_seconds: Seconds = Field(2.0, description="How often a running stage says that it is alive.")
    worker_lost_after_seconds: Seconds = Field(
        8.0, description="Silence after which a stage is given to another worker."
    )
    cancel_grace_seconds: Seconds = Field(
        5.0,
        description="How long a cancelled job waits for its stage's death before it is final.",
    )
    stage_memory_bytes: Size = Field(
        ByteSize(4096 * MIB),
        description="Most memory (data segment) the process of one stage may take.",
    )
    pipelines: Names = Field(
        ("callsheet.pipelines.transcribe:pipeline",),
        description="Pipelines on offer, as `package.module:attribute`, comma-separated.",
    )
    model: str = Field(
        "base",
        min_length=1,
        description="Recognition model: a size that faster-whisper knows, or a folder.",
    )

    # Logs and tests
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description="`auto` is `console` on a terminal and under `callsheet up`, else `json`.",
    )
    parent_pid: Annotated[int | None, Field(ge=1)] = Field(
        None,
        description="Set by `callsheet up` for its children, which die with it. Not for use by hand.",
    )
    failpoints: str = Field("", description="For tests only: named points at which a role kills itself.")

    @property
    def models(self) -> Path:
        """The folder the recognition models lie in."""
        return self.models_folder or self.data / "models"

    @property
    def journal(self) -> str:
        """The address of the journal's Redis; it must be known by the time a role asks."""
        return _known(self.redis_url, "redis_url")

    @property
    def broker(self) -> str:
        """The address of the broker's Redis; it must be known by the time a role asks."""
        return _known(self.broker_url, "broker_url")

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if problem := next(filter(None, (check(self) for check in CONTRADICTIONS)), None):
            raise ValueError(problem)
        return self


def _public_bind(s: Settings) -> str | None:
    if s.bind == "localhost" or _is_loopback(s.bind):
        return None
    return f"bind={s.bind} opens the service to the network, and it has no API keys yet: take 127.0.0.1"


def _hasty_loss(s: Settings) -> str | None:
    if s.worker_lost_after_seconds >= 2 * s.heartbeat_seconds:
        return None
    return (
        f"worker_lost_after_seconds={s.worker_lost_after_seconds:g} must be at least twice "
        f"heartbeat_seconds={s.heartbeat_seconds:g}, or one late heartbeat loses a healthy worker"
    )


def _one_redis_for_two(s: Settings) -> str | None:
    if s.redis_url is None or s.redis_url != s.broker_url:
        return None
    return "broker_url equals redis_url: the work queues need a Redis (or at least a database number) of their own"


def _pool_wider_than_memory(s: Settings) -> str | None:
    if s.host_capacity >= s.host_pool_threads:
        return None
    return f"host_capacity={s.host_capacity} is less than host_pool_threads={s.host_pool_threads}: threads could never be fed"


def _slow_reply(s: Settings) -> str | None:
    if s.reply_timeout <= 30:
        return None
    return f"reply_timeout={s.reply_timeout:g}: a request that waits longer than 30 s is cut off by most clients"


def _no_pipeline(s: Settings) -> str | None:
    return None if s.pipelines else "pipelines is empty: there would be nothing to run"


CONTRADICTIONS = (
    _public_bind,
    _hasty_loss,
    _one_redis_for_two,
    _pool_wider_than_memory,
    _slow_reply,
    _no_pipeline,
)


def load_settings(**changes: Any) -> Settings:
    """The settings of this process: the environment, overridden by `changes`. Raises SettingsError, one line."""
    if unknown := _unknown_names():
        raise SettingsError(unknown)
    try:
        return Settings(**changes)
    except ValidationError as error:
        raise SettingsError("; ".join(_line(e["loc"], e["msg"]) for e in error.errors())) from None


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with settings changed, for a child that is to see them: `environment(port="9000")`."""
    return {
        **os.environ,
        **{PREFIX + name.upper(): value for name, value in changes.items()},
    }


def redacted(url: str) -> str:
    """A URL that may be logged: without its password and query."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return urlunsplit(parts._replace(query=""))
    user, _, address = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{address}", query=""))


def _known(url: str | None, name: str) -> str:
    if url is None:
        raise SettingsError(
            f"{PREFIX}{name.upper()} is not set; `callsheet up` starts a private Redis, a single role needs one"
        )
    return url


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def _unknown_names() -> str | None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and not name.upper().startswith(TEST_PREFIX) and name.upper() not in known:
            guess = difflib.get_close_matches(name.upper(), known, n=1)
            return f"{name} is not a setting" + (f"; did you mean {guess[0]}?" if guess else "")
    return None


def _line(where: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{PREFIX}{str(where[0]).upper()}: {message}" if where else message
