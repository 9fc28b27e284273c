"""Settings: every knob of every role, read from the environment (`CALLSHEET_…`) here and nowhere else."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from callsheet.config.checks import first_contradiction, is_loopback
from callsheet.config.kinds import (
    DAY,
    GIB,
    HOUR,
    MIB,
    Addresses,
    BaseUrl,
    BucketUrl,
    Count,
    Delays,
    Folder,
    Hosts,
    Names,
    Rate,
    RedisUrl,
    Seconds,
    SettingsError,
    Size,
    Slots,
    StageNames,
    WebAddress,
    half_the_cores,
    next_database,
)

__all__ = ["Settings", "SettingsError", "environment", "load_settings"]

PREFIX = "CALLSHEET_"
WEB_ORIGIN = r"^https?://[^/?#@\s]+$"
ANY_MODEL = r"^[\w.:@/-]{1,200}$"
TEST_PREFIX = "CALLSHEET_TEST_"


class Settings(BaseSettings):
    """What one role needs to know. Built once per process, by `load_settings()`, and never changed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    # Where it listens and where it keeps things
    bind: str = Field(
        "127.0.0.1",
        description="Address the API listens on. Beyond loopback every request needs a key, and one must be there.",
    )
    port: int = Field(8080, ge=1, le=65535, description="Port the API listens on.")
    data: Folder = Field(
        Path("var"), description="Folder for everything that is kept: uploads, artifacts, embedded Redis."
    )
    redis_url: RedisUrl = Field(
        None, repr=False, description="Redis of mailboxes and journals. Unset: `callsheet up` starts a private one."
    )
    broker_url: RedisUrl = Field(
        None,
        repr=False,
        description="Redis of the work queues; needs no durability. Unset: the next database of the server of "
        "`redis_url`, where every dispatch waits for its disk; with both unset `callsheet up` starts a private one.",
    )
    models_folder: Folder | None = Field(
        None, description="Folder of recognition models. Unset: `models` in the data folder."
    )

    # An object store in place of a shared folder
    store_url: BucketUrl = Field(
        None, description="`s3://bucket/prefix` that uploads and artifacts go to. Unset: `store` in the data folder."
    )
    store_endpoint: WebAddress = Field(
        None, description="Address of the object store, like `https://minio.example:9000`. Unset: AWS."
    )
    store_region: str | None = Field(None, min_length=1, description="Region of the bucket. Unset: as AWS tools do.")
    store_access_key: SecretStr | None = Field(
        None,
        description="Key of the object store. Unset: as AWS tools do, in the environment or by the machine's role.",
    )
    store_secret_key: SecretStr | None = Field(None, description="The secret of that key.")
    store_path_style: bool = Field(
        True, description="Whether the bucket is in the path of addresses; false: in their host name."
    )
    store_presigned_seconds: float = Field(
        0,
        ge=0,
        le=3600,
        description="For how long clients get an address at the object store itself (307) in place of an artifact; "
        "0: artifacts come from the API.",
    )

    # The API
    api_workers: Count = Field(2, description="Processes that answer HTTP.")
    max_upload_bytes: Size = Field(ByteSize(500 * MIB), description="Largest upload; more is answered 413.")
    upload_keep_seconds: Seconds = Field(
        DAY, description="How long an upload in pieces (tus) is kept after something of it last arrived."
    )
    min_free_bytes: Size = Field(
        ByteSize(256 * MIB), description="Free room on the data folder's disk below which uploads are answered 507."
    )
    allowed_addresses: Addresses = Field(
        (),
        description="Exact `host:port` (comma-separated) that URLs given by clients may lead to though they are not "
        "public, like `127.0.0.1:9000`.",
    )
    allowed_hosts: Hosts = Field(
        (),
        description="Names (comma-separated) under which the service may be asked where it needs no keys, beside "
        "`localhost` and addresses; other names are answered 421.",
    )
    reply_timeout: Seconds = Field(
        2.0, description="How long a request waits for the job's owner before it answers 202."
    )
    openai_wait_seconds: Seconds = Field(
        570.0,
        description="How long a request to /v1/audio/... waits for its transcript, unless it is streamed. OpenAI's own "
        "client gives up after 600, and would ask again.",
    )
    body_patience_seconds: Seconds = Field(
        30.0,
        description="Longest pause in an upload, and its first allowance; after that it must bring 1 KiB a second.",
    )
    max_duration_seconds: Seconds = Field(4 * HOUR, description="Longest media that is taken.")
    max_pixels: Count = Field(36_000_000, description="Most pixels (width x height) of a picture that is taken.")
    feed_ping_seconds: Seconds = Field(15.0, description="Silence on a live feed after which a ping is sent.")
    graceful_seconds: Seconds = Field(3.0, description="How long the API may finish open requests when it is stopped.")

    # Who may use it, and how much of it: `callsheet tenants set` gives a tenant limits of its own
    auth: Literal["auto", "keys", "off"] = Field(
        "auto", description="`keys`: every request needs one; `off`: none does; `auto`: beyond loopback, see `bind`."
    )
    rate_per_second: Rate | None = Field(
        None, description="Requests a second of one tenant; 0: any number. Unset: 100 where keys are needed, else 0."
    )
    rate_burst: Count = Field(200, description="Requests that a tenant may send at once, before its rate counts.")
    quota_bytes: Size = Field(ByteSize(100 * GIB), description="Most bytes of one tenant: uploads and artifacts.")
    max_active_jobs: int = Field(
        0,
        ge=0,
        le=1000,
        description="Jobs of one tenant at work at once; the others wait for their turn. 0: any number.",
    )
    max_open_jobs: Slots = Field(
        10_000, description="Jobs of one tenant that have not ended; more are answered 429. 0: any number."
    )
    max_stored_jobs: Slots = Field(
        100_000, description="Jobs of one tenant that are kept, ended ones too; more are answered 429. 0: any number."
    )

    # The host of job actors
    partitions: int = Field(
        16, ge=1, le=1024, description="Mailboxes the jobs are spread over. Fixed at the first start of a journal."
    )
    lease_seconds: Seconds = Field(
        5.0, ge=1.0, description="How long a host owns a partition without renewing its lease."
    )
    host_pool_threads: Count = Field(
        64, description="Threads the job actors share; also the number of commits that travel together."
    )
    host_capacity: Count = Field(
        4096, description="Most messages a host holds in memory before it stops reading mailboxes."
    )
    idle_seconds: Seconds = Field(30.0, description="How long an idle job actor stays in memory.")
    retention_seconds: Seconds = Field(7 * DAY, description="How long a finished job and its artifacts are kept.")
    tombstone_seconds: Seconds = Field(
        7 * DAY,
        description="How long an expired job is remembered as such; a day at least, as long as idempotency keys.",
    )

    # Webhooks
    webhook_timeout_seconds: Seconds = Field(
        15.0,
        description="How long one try of a webhook may take, from the look-up of the name to the end of the answer.",
    )
    webhook_retry_seconds: Delays = Field(
        (5, 300, 1800, 7200, 18000, 36000, 36000),
        max_length=20,
        description="Wait after each failed try of a webhook, comma-separated; after the last one it is given up.",
    )

    # The workers
    cpu_concurrency: Slots = Field(
        default_factory=half_the_cores,
        description="Stages of the queue `cpu` at once. Default: half the cores, at least 1.",
    )
    io_concurrency: Slots = Field(4, description="Stages of the queue `io` at once.")
    gpu_concurrency: Slots = Field(0, description="Stages of the queue `gpu` at once; 0 where there is none.")
    heartbeat_seconds: Seconds = Field(2.0, description="How often a running stage says that it is alive.")
    worker_lost_after_seconds: Seconds = Field(
        8.0, description="Silence after which a stage is given to another worker."
    )
    cancel_grace_seconds: Seconds = Field(
        5.0, description="How long a cancelled job waits for its stage's death before it is final."
    )
    stage_memory_bytes: Size = Field(
        ByteSize(4096 * MIB), description="Most memory (data segment) the process of one stage may take."
    )
    reuse: bool = Field(
        True,
        description="Use what a stage gave before where it would be made from the same, instead of making it again.",
    )
    no_reuse: StageNames = Field(
        (), description="Stages that are always run again, as `pipeline.stage`, comma-separated; `*` for all."
    )
    pipelines: Names = Field(
        (
            "callsheet.pipelines.transcribe:pipeline",
            "callsheet.pipelines.shorts:pipeline",
            "callsheet.pipelines.restyle:pipeline",
            "callsheet.pipelines.preview:pipeline",
        ),
        description="Pipelines on offer, as `package.module:attribute`, comma-separated.",
    )
    model: str = Field(
        "base", min_length=1, description="Recognition model: a size that faster-whisper knows, or a folder."
    )

    # Paid models, for `restyle`: only workers of the queue `io` need the keys
    gemini_key: SecretStr | None = Field(None, description="Key of the Gemini API, which makes pictures. Unset: off.")
    gemini_url: str = Field(
        "https://generativelanguage.googleapis.com", pattern=WEB_ORIGIN, description="Where the Gemini API is."
    )
    gemini_model: str = Field(
        "gemini-nano-banana-2.1", pattern=r"^[\w.-]+$", description="The model that makes and relights pictures."
    )
    fal_key: SecretStr | None = Field(None, description="Key of fal.ai, whose models work on video. Unset: off.")
    fal_queue_url: str = Field("https://queue.fal.run", pattern=WEB_ORIGIN, description="Where fal.ai's queue is.")
    fal_rest_url: str = Field("https://rest.fal.ai", pattern=WEB_ORIGIN, description="Where fal.ai takes files.")
    fal_file_hosts: Hosts = Field(
        ("fal.media", "storage.googleapis.com"),
        description="Hosts that fal.ai's files are fetched from, and sent to, besides the two above; or below them.",
    )
    fal_relight_model: str = Field(
        "fal-ai/id-v2v/relight",
        pattern=r"^[\w.-]+(/[\w.-]+)+$",
        description="The model that carries a relit first frame through a video.",
    )
    fal_matte_model: str = Field(
        "fal-ai/birefnet/v2/video",
        pattern=r"^[\w.-]+(/[\w.-]+)+$",
        description="The model that cuts a subject out of a video.",
    )
    deepgram_key: SecretStr | None = Field(None, description="Key of Deepgram, an engine of `transcribe`. Unset: off.")
    deepgram_url: str = Field("https://api.deepgram.com", pattern=WEB_ORIGIN, description="Where Deepgram is.")
    deepgram_model: str = Field("nova-2", pattern=r"^[\w.-]+$", description="The model of Deepgram that recognises.")
    openai_key: SecretStr | None = Field(
        None, description="Key of the engine `openai` of `transcribe`. Off while neither this nor `openai_url` is set."
    )
    openai_url: BaseUrl = Field(
        None,
        description="Where that engine is: any endpoint that speaks OpenAI's `/audio/transcriptions`. "
        "Unset: `https://api.openai.com/v1`.",
    )
    openai_model: str = Field("whisper-1", pattern=ANY_MODEL, description="The model that it is asked for.")
    openai_minute_price: float = Field(
        0.006, ge=0, le=100, description="What a minute costs there, in US dollars, for the cost that jobs report."
    )
    llm_url: BaseUrl = Field(
        None,
        description="A language model for summaries, chapters and highlights: any endpoint that speaks OpenAI's "
        "`/chat/completions`, such as `http://127.0.0.1:11434/v1`. Unset: off.",
    )
    llm_key: SecretStr | None = Field(None, description="Its key, if it takes one.")
    llm_model: str = Field("", pattern=f"^$|{ANY_MODEL}", description="The model that it is asked for.")
    recognition_call_seconds: Seconds = Field(
        600.0, description="Longest silence of an engine of `transcribe` within one call."
    )
    provider_poll_seconds: Seconds = Field(2.0, description="Pause between two looks at an order that is in work.")
    provider_call_seconds: Seconds = Field(120.0, description="Longest wait for a provider within one call.")
    provider_patience_seconds: Seconds = Field(
        1500.0, description="How long one try waits for an order. A later try waits for the same order."
    )

    # Logs and tests
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto` is `console` on a terminal and under `callsheet up`, else `json`."
    )
    otel_endpoint: WebAddress = Field(
        None,
        description="OTLP/HTTP collector that traces go to, like `http://127.0.0.1:4318`; needs the extra `otel`. "
        "Unset: no traces.",
    )
    failpoints: str = Field("", description="For tests only: named points at which a role kills itself.")

    @property
    def needs_keys(self) -> bool:
        """Whether every request needs a key."""
        return self.auth == "keys" or (self.auth == "auto" and not is_loopback(self.bind))

    @property
    def models(self) -> Path:
        """The folder the recognition models lie in."""
        return self.models_folder or self.data / "models"

    @property
    def store_credentials(self) -> tuple[str, str] | None:
        """The object store's key and its secret, if they are set here."""
        if self.store_access_key is None or self.store_secret_key is None:
            return None
        return self.store_access_key.get_secret_value(), self.store_secret_key.get_secret_value()

    @property
    def journal(self) -> str:
        """The address of the journal's Redis; it must be known by the time a role asks."""
        if self.redis_url is None:
            raise SettingsError(
                f"{PREFIX}REDIS_URL is not set; `callsheet up` starts a private Redis, a single role needs one"
            )
        return self.redis_url

    @property
    def broker(self) -> str:
        """The address of the broker's Redis. Every role that knows the journal knows the same broker."""
        return self.broker_url or next_database(self.journal)

    @property
    def address(self) -> str:
        """Where the API listens, as `host:port`; an IPv6 address in brackets."""
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if problem := first_contradiction(self):
            raise ValueError(problem)
        return self


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
