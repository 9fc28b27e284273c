"""The application: all of its wiring on one screen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import falcon.asgi

from callsheet.actors.client import Jobs
from callsheet.actors.failpoints import configure
from callsheet.actors.feeds.job_feed import Feed
from callsheet.actors.feeds.tenant_feed import TenantFeed
from callsheet.actors.pipelines import load_pipelines
from callsheet.actors.stores.charged import open_charged_store
from callsheet.actors.stores.upload_keys import UploadKeys
from callsheet.actors.stores.uploads import open_uploads
from callsheet.actors.tasks import end_tasks
from callsheet.actors.telemetry.figures import Figures
from callsheet.actors.telemetry.tracing import start_tracing, stop_tracing
from callsheet.actors.tenants.keyring import Keyring
from callsheet.actors.tenants.limits import AsyncTenants, limits_of
from callsheet.actors.tenants.places import Places
from callsheet.actors.tenants.rate import Counts, Rates
from callsheet.config.settings import Settings
from callsheet.http.artifacts import ArtifactFile, ArtifactList, ArtifactZip
from callsheet.http.auth import Doorkeeper
from callsheet.http.body import App, guarded
from callsheet.http.events import JobEvents
from callsheet.http.health import Alive, Index, Ready
from callsheet.http.hosts import HostCheck
from callsheet.http.jobs import CancelJob, JobList, OneJob, RetryJob
from callsheet.http.limits import JobRoom, RateGate
from callsheet.http.metrics import Counting, Metrics, counted_once
from callsheet.http.openai.audio import Audio
from callsheet.http.openai.errors import answer_error
from callsheet.http.pages.documents import documents
from callsheet.http.pipelines import PipelineList
from callsheet.http.problems import ClientGoneError, Problem, drop_answer
from callsheet.http.request_ids import RequestIds
from callsheet.http.socket import JobSocket
from callsheet.http.submit import Submitting
from callsheet.http.sweeping import keep_sweeping
from callsheet.http.tenant_events import TenantEvents
from callsheet.http.tickets import Tickets
from callsheet.http.tracing import Tracing
from callsheet.http.uploads.creation import UploadList
from callsheet.http.uploads.resources import OneUpload, Uploads
from callsheet.http.uploads.tus import TusManners
from callsheet.http.webhooks import RedeliverWebhook, WebhookList

CLOSE_SECONDS = 1.0
# That wait for a disk, a bucket or Redis at once, in place of four and one for each processor: so few are soon all with
# uploads that a slow bucket takes in, and then nobody else's upload, health or figures came through.
THREADS = 64
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def create_app(settings: Settings) -> App:
    """The ASGI application of these settings. It connects to nothing before the first request."""
    configure(settings.failpoints)
    start_tracing(settings, "api")
    jobs = Jobs(settings.journal, partitions=settings.partitions, reply_timeout=settings.reply_timeout)
    feed, tenants = Feed(jobs), TenantFeed(jobs)
    store = open_charged_store(settings)
    keyring = Keyring(jobs.redis)
    counted = settings.broker_url or settings.journal
    rates, places = Rates(counted), Places(counted)
    limits = AsyncTenants(jobs.redis, limits_of(settings))
    pipelines = load_pipelines(settings.pipelines)
    ping = settings.feed_ping_seconds
    pieces, room = open_uploads(settings), JobRoom(jobs, limits, places)
    uploads = Uploads(settings, pieces, store.ledger)
    sweeping = partial(keep_sweeping, store, pieces) if settings.store_url else None
    submitting = Submitting(settings, jobs, store, pipelines, uploads=uploads, room=room)
    figures = Figures(settings)
    middleware: Any = [
        RequestIds(),
        Counting(),
        Tracing(),
        HostCheck(None if settings.needs_keys else settings.allowed_hosts),
        Manners(),
        Doorkeeper(keyring, needs_keys=settings.needs_keys),
        RateGate(rates, limits, by_tenant=settings.needs_keys),
        TusManners(int(settings.max_upload_bytes)),
        Lifespan(jobs, (rates, places), figures, feed, tenants, sweeping=sweeping),
    ]
    audio = partial(Audio, settings, jobs, store, pipelines=pipelines, submitting=submitting, feed=feed)
    app: Any = falcon.asgi.App(middleware=middleware)
    for path, resource in (
        ("/", Index()),
        ("/healthz", Alive()),
        ("/readyz", Ready(jobs, store, settings.data)),
        ("/metrics", Metrics(figures)),
        *documents(pipelines, needs_keys=settings.needs_keys),
        ("/v1/pipelines", PipelineList(pipelines)),
        ("/v1/tickets", Tickets(keyring)),
        ("/v1/uploads", UploadList(uploads, UploadKeys(jobs.redis))),
        ("/v1/uploads/{upload_id}", OneUpload(uploads)),
        ("/v1/jobs", JobList(jobs, submitting)),
        ("/v1/events", TenantEvents(jobs, tenants, ping)),
        ("/v1/audio/transcriptions", audio(translate=False)),
        ("/v1/audio/translations", audio(translate=True)),
        ("/v1/jobs/{job_id}", OneJob(jobs)),
        ("/v1/jobs/{job_id}/cancel", CancelJob(jobs)),
        ("/v1/jobs/{job_id}/retry", RetryJob(jobs, pipelines, room)),
        ("/v1/jobs/{job_id}/events", JobEvents(jobs, feed, ping)),
        ("/v1/jobs/{job_id}/ws", JobSocket(jobs, feed, pipelines, ping, keyring=keyring, room=room)),
        ("/v1/jobs/{job_id}/webhooks", WebhookList(jobs)),
        ("/v1/jobs/{job_id}/webhooks/redeliver", RedeliverWebhook(jobs)),
        ("/v1/jobs/{job_id}/artifacts", ArtifactList(jobs)),
        ("/v1/jobs/{job_id}/artifacts.zip", ArtifactZip(jobs, store)),
        ("/v1/jobs/{job_id}/artifacts/{name}", ArtifactFile(jobs, store, settings.store_presigned_seconds)),
    ):
        _add(app, path, resource)
    app.add_error_handler((Exception, falcon.HTTPError), answer_error)
    app.add_error_handler(ClientGoneError, drop_answer)
    return counted_once(guarded(app, settings.body_patience_seconds))


def _add(app: Any, path: str, resource: Any) -> None:
    """Add a route; what can be got can be asked about with HEAD."""
    if hasattr(resource, "on_get"):
        resource.on_head = resource.on_get
    app.add_route(path, resource)


class Manners:
    """What holds for every request and response."""

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """A page of another site may not use the browser of somebody here to change anything."""
        if req.method not in SAFE_METHODS:
            refuse_foreign_origin(req)

    async def process_request_ws(self, req: falcon.asgi.Request, _ws: falcon.asgi.WebSocket) -> None:
        """Nor may it watch: the browser's same-origin rule does not cover WebSocket."""
        refuse_foreign_origin(req)

    async def process_response(self, _req: Any, resp: falcon.asgi.Response, _resource: Any, _succeeded: bool) -> None:
        """No browser guesses a type. And what says nothing of caches is kept by its client alone, which asks about it
        each time, or by nobody, where nobody could. To a shared cache `X-API-Key` is a header like any other."""
        resp.set_header("X-Content-Type-Options", "nosniff")
        if resp.get_header("Cache-Control") is None:
            resp.set_header("Cache-Control", "private, no-cache" if resp.get_header("ETag") else "no-store")


def refuse_foreign_origin(req: falcon.asgi.Request) -> None:
    """Raise Problem for a request that a page of another site has caused."""
    origin = req.get_header("Origin")
    if origin is None:
        return
    try:
        place = urlsplit(origin).netloc.lower()
    except ValueError:  # no browser says that
        raise Problem("forbidden_origin") from None
    if place != (req.get_header("Host") or "").lower():
        raise Problem("forbidden_origin")


class Lifespan:
    """The start and the end of a process that serves."""

    def __init__(
        self,
        jobs: Jobs,
        counts: Sequence[Counts],
        figures: Figures,
        *feeds: Feed | TenantFeed,
        sweeping: Callable[[], Coroutine[Any, Any, None]] | None,
    ) -> None:
        self._sweeping = sweeping
        self._sweeper: asyncio.Task[None] | None = None
        self._jobs = jobs
        self._figures = figures
        self._counts = counts
        self._feeds = feeds

    async def process_startup(self, scope: dict[str, Any], _event: Any) -> None:
        """Tell the server how to let the watchers go when it stops: it would wait for them otherwise."""
        scope.setdefault("state", {})["stop"] = self._let_go
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "api"))
        self._figures.board.start()
        if self._sweeping is not None:
            self._sweeper = asyncio.create_task(self._sweeping(), name="sweep")

    async def process_shutdown(self, _scope: Any, _event: Any) -> None:
        """Close what is open; not at any price, since the process ends anyway."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await end_tasks([self._sweeper] if self._sweeper else [])
                for feed in self._feeds:
                    await feed.close()
                await self._jobs.close()
                for count in self._counts:
                    await count.close()
                await asyncio.to_thread(self._figures.close)
                await asyncio.to_thread(stop_tracing)

    def _let_go(self) -> None:
        for feed in self._feeds:
            feed.stop()
