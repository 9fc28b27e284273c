"""Paid models behind somebody's API: the interface that each provider has, its settings, and what can go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from callsheet.media.errors import MediaError


class ProviderError(MediaError):
    """A provider did not do what it was asked. `taken`: whether it may have taken the order, and with it the money.

    False: certainly not. None: nobody knows, because the answer got lost.
    """

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, taken: Literal[False] | None = None
    ) -> None:
        super().__init__(code, message, retryable=retryable)
        self.taken = taken
        self.retry_after: float | None = None  # seconds, where the provider says so
        self.status: int | None = None  # of the answer, where it was one


class Order(msgspec.Struct, frozen=True):
    """What is to be made: by which model, from which `arguments` (JSON) and `files` (argument -> path, media type).

    `answer` names the member of the result that holds the file; `limit` is how many bytes that may have.
    """

    model: str
    arguments: dict[str, Any]
    files: dict[str, tuple[Path, str]] = {}
    answer: str = ""
    limit: int = 64 << 20


class Ref(msgspec.Struct, frozen=True):
    """An order that was taken: all that is needed to ask for it later, from another process.

    `urls`: where to ask, by purpose. `done`: the result came with the answer, and lies where `submit` was told.
    """

    provider: str
    request: str
    urls: dict[str, str] = {}
    done: bool = False


class Status(msgspec.Struct, frozen=True):
    """How far an order is."""

    state: Literal["queued", "running", "done"]
    note: str = ""


class Provider(Protocol):
    """One provider. Every method has a bound on time and size, repeats what may be repeated, raises ProviderError."""

    name: str

    def prepare(self, order: Order, /) -> Order:
        """Send ahead what costs nothing, such as files."""
        ...

    def submit(self, order: Order, target: Path, /) -> Ref:
        """Place a prepared order: from here on it may cost. Repeated only where it was certainly not taken."""
        ...

    def poll(self, ref: Ref, /) -> Status:
        """How far it is. ProviderError `provider_failed` when it came to nothing."""
        ...

    def fetch(self, ref: Ref, order: Order, target: Path, /) -> None:
        """Write the result. May be repeated."""
        ...

    def cancel(self, ref: Ref, /) -> bool:
        """Ask to have it stopped; False when it is over already, or cannot be stopped."""
        ...


class ProviderSettings(msgspec.Struct, frozen=True):
    """Whom to ask, with which key, and how patiently. An empty key: that provider is not configured.

    `ready` names the configured ones, also where the keys themselves are not given (`keyless`).
    """

    gemini_key: str = ""
    gemini_url: str = "https://generativelanguage.googleapis.com"
    gemini_model: str = "gemini-nano-banana-2.1"
    fal_key: str = ""
    fal_queue_url: str = "https://queue.fal.run"
    fal_rest_url: str = "https://rest.fal.ai"
    fal_file_hosts: tuple[str, ...] = ("fal.media", "storage.googleapis.com")
    fal_relight_model: str = "fal-ai/id-v2v/relight"
    fal_matte_model: str = "fal-ai/birefnet/v2/video"
    deepgram_key: str = ""
    deepgram_url: str = "https://api.deepgram.com"
    deepgram_model: str = "nova-2"
    openai_key: str = ""
    openai_url: str = "https://api.openai.com/v1"
    openai_model: str = "whisper-1"
    openai_minute_price: float = 0.006
    llm_key: str = ""
    llm_url: str = ""
    llm_model: str = ""
    poll_seconds: float = 2.0
    call_seconds: float = 120.0
    recognition_seconds: float = 600.0
    patience_seconds: float = 1500.0
    keyless: bool = False
    ready: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the keys: it may end up in a log."""
        return f"ProviderSettings(ready={self.ready})"

    def without_keys(self) -> ProviderSettings:
        """The same for a process that never calls anybody."""
        keys = {name: "" for name in self.__struct_fields__ if name.endswith("_key")}
        return msgspec.structs.replace(self, **keys, keyless=True)


CONFIGURED_BY = {
    "gemini": "CALLSHEET_GEMINI_KEY",
    "fal": "CALLSHEET_FAL_KEY",
    "deepgram": "CALLSHEET_DEEPGRAM_KEY",
    "openai": "CALLSHEET_OPENAI_KEY or CALLSHEET_OPENAI_URL",
    "llm": "CALLSHEET_LLM_URL and CALLSHEET_LLM_MODEL",
}
_current = ProviderSettings()


def configure(settings: ProviderSettings) -> None:
    """Set the providers of this process. Called once, when it starts."""
    global _current  # noqa: PLW0603  (as with the limits: one value per process)
    _current = settings


def current() -> ProviderSettings:
    """The settings in force."""
    return _current


def check_configured(provider: str, purpose: str) -> None:
    """Raise ProviderError (provider_not_configured) with what is to be set, unless it is."""
    if provider not in current().ready:
        raise ProviderError(
            "provider_not_configured",
            f"{purpose} needs the provider {provider}, which is not configured: set {CONFIGURED_BY[provider]}.",
            taken=False,
        )
