"""Paid steps as the worker sees them: where a job's purchases are written down, and who takes an order back.

A stage that is cancelled is dead at once and cannot speak to a provider any more. So its worker does, after it has
reported the stage's end: it knows from the ledger what is outstanding, and it has the keys.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import msgspec
import structlog

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.stores.files import old_in
from callsheet.config.settings import Settings
from callsheet.media.providers.base import ProviderError, ProviderSettings
from callsheet.media.providers.buy import cancel_outstanding

log = structlog.get_logger("worker")
LEDGER = "paid"
BUYING_QUEUE = "io"  # the stages that buy run there, and no other child is given keys
CANCEL_SECONDS = 10.0  # for one call
OVER = ("cancelling", "cancelled")


def provider_settings(settings: Settings) -> ProviderSettings:
    """What the settings say of providers, with the keys."""
    keys = {
        "gemini": settings.gemini_key,
        "fal": settings.fal_key,
        "deepgram": settings.deepgram_key,
        "openai": settings.openai_key,
        "llm": settings.llm_key,
    }
    plain = {name: key.get_secret_value() for name, key in keys.items() if key is not None}
    ready = set(plain) - {"llm"} | ({"openai"} if settings.openai_url else set())
    ready |= {"llm"} if settings.llm_url and settings.llm_model else set()
    return ProviderSettings(
        gemini_key=plain.get("gemini", ""),
        gemini_url=settings.gemini_url,
        gemini_model=settings.gemini_model,
        fal_key=plain.get("fal", ""),
        fal_queue_url=settings.fal_queue_url,
        fal_rest_url=settings.fal_rest_url,
        fal_file_hosts=settings.fal_file_hosts,
        fal_relight_model=settings.fal_relight_model,
        fal_matte_model=settings.fal_matte_model,
        deepgram_key=plain.get("deepgram", ""),
        deepgram_url=settings.deepgram_url,
        deepgram_model=settings.deepgram_model,
        openai_key=plain.get("openai", ""),
        openai_url=settings.openai_url or ProviderSettings().openai_url,
        openai_model=settings.openai_model,
        openai_minute_price=settings.openai_minute_price,
        llm_key=plain.get("llm", ""),
        llm_url=settings.llm_url or "",
        llm_model=settings.llm_model,
        poll_seconds=settings.provider_poll_seconds,
        call_seconds=settings.provider_call_seconds,
        recognition_seconds=settings.recognition_call_seconds,
        patience_seconds=settings.provider_patience_seconds,
        ready=tuple(sorted(ready)),
    )


class PaidSteps:
    """The ledgers of all jobs, and the way to take back what a cancelled one has ordered."""

    def __init__(self, settings: Settings, jobs: BlockingJobs) -> None:
        self._jobs = jobs
        self._shared = settings.store_url is None
        self._root = settings.data / "store" / "jobs" if self._shared else settings.data / LEDGER
        self._providers = msgspec.structs.replace(provider_settings(settings), call_seconds=CANCEL_SECONDS)
        self._kept = settings.retention_seconds
        if not self._shared:
            self._root.mkdir(parents=True, exist_ok=True)

    def ledger(self, job: str) -> Path:
        """The folder of a job's purchases: among its files, and gone with them. With an object store, on this disk."""
        return self._root / job / LEDGER if self._shared else self._root / job

    def sweep(self) -> None:
        """Remove ledgers of jobs that have expired since. Only where they are not among the files of their jobs."""
        for folder in () if self._shared else old_in(self._root, 2 * self._kept):
            shutil.rmtree(folder, ignore_errors=True)

    def stopped(self, job: str) -> None:
        """A stage of this job was stopped: if that was a cancel, take back what is outstanding. Does not wait."""
        if self._providers.ready and self.ledger(job).exists():
            threading.Thread(target=self._take_back, args=[job], name="take-back", daemon=True).start()

    def _take_back(self, job: str) -> None:
        try:
            found = self._jobs.job(job)
            if found is not None and found.status in OVER:
                log.info("orders were cancelled", job=job, orders=cancel_outstanding(self.ledger(job), self._providers))
        except (CallsheetError, ProviderError, OSError) as error:
            log.warning("an order could not be cancelled", job=job, why=str(error))
