"""`/v1/audio/transcriptions` and `/v1/audio/translations`, as clients of the OpenAI API ask for them.

Each request is a job of the pipeline `transcribe`, and waits for its end. A client that leaves takes its job with it,
unless it named it with `Idempotency-Key`: then it can come back for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import falcon.asgi
import msgspec

from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.feeds.job_feed import CursorLostError, Feed, FeedEntry
from callsheet.actors.pipelines import Pipelines
from callsheet.actors.stores.charged import ChargedStore
from callsheet.actors.stores.store import ArtifactStore
from callsheet.actors.tasks import end_tasks
from callsheet.config.settings import Settings
from callsheet.http.body import Body
from callsheet.http.events import PING, EventStream
from callsheet.http.fields import Fields
from callsheet.http.openai.errors import error_members, failure
from callsheet.http.openai.form import AudioIntake
from callsheet.http.openai.formats import begins_apart, formatted, read_transcript
from callsheet.http.problems import ClientGoneError, Problem, problem_of
from callsheet.http.reach import find, send
from callsheet.http.submit import Submitting
from callsheet.jobs.job import ACTIVE, Job
from callsheet.jobs.messages import Cancel

T = TypeVar("T")


class Utterance(msgspec.Struct):
    """A piece of a transcript as a `PartialResult` tells it."""

    id: int
    text: str


class _Piece(msgspec.Struct):
    utterances: list[Utterance] = []


class _Partial(msgspec.Struct):
    partial: _Piece


class _PartialEvent(msgspec.Struct):
    data: _Partial


_partial = msgspec.json.Decoder(_PartialEvent).decode


class Audio:
    """One of the two resources; `translate` says which."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        store: ChargedStore,
        *,
        pipelines: Pipelines,
        submitting: Submitting,
        feed: Feed,
        translate: bool,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._store = store
        self._pipelines = pipelines
        self._submitting = submitting
        self._feed = feed
        self._translate = translate

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Submit, wait, answer. Whatever the answer is, it names the job, once there is one."""
        intake = AudioIntake(self._settings, self._store, Fields(self._pipelines), translate=self._translate)
        job = await self._submitting.submit(req, intake)
        resp.set_header("X-Callsheet-Job", job.id)
        resp.set_header("Cache-Control", "no-store")
        body: Body = req.scope["callsheet.body"]
        visit = _Visit(self._jobs, self._feed, job, stays=req.get_header("Idempotency-Key") is not None)
        if intake.wanted.stream:
            await self._stream(resp, visit, body)
        else:
            ended = await visit.attended(visit.end(), body, self._settings.openai_wait_seconds)
            resp.content_type, resp.data = await formatted(self._store, _completed(ended), intake.wanted)

    async def _stream(self, resp: falcon.asgi.Response, visit: _Visit, body: Body) -> None:
        """What shows early that there will be no transcript is a refusal like any other, and no stream."""
        with suppress(_TooLongError):
            ended = await visit.attended(visit.begun(), body, self._settings.openai_wait_seconds)
            if ended is not None:
                _completed(ended)
        resp.content_type = "text/event-stream"
        resp.set_header("X-Accel-Buffering", "no")
        frames = _frames(visit, self._store, self._settings.feed_ping_seconds)
        resp.stream = EventStream(body, frames, first=b"")  # type: ignore[assignment]  # closed by `close`


class _TooLongError(Problem):
    """The job goes on, but nobody waits for it here any longer."""


class _Visit:
    """One request's stay with its job."""

    def __init__(self, jobs: Jobs, feed: Feed, job: Job, *, stays: bool) -> None:
        self._jobs = jobs
        self._feed = feed
        self._job = job
        self._stays = stays  # the job, when the client goes

    async def attended(self, work: Coroutine[Any, Any, T], body: Body, seconds: float) -> T:
        """The outcome of some work while the client waits for it. Raises ClientGoneError, and Problem: the service
        stops, or it takes too long, after which the job goes on and the client knows it by name. It is not to try again
        by itself then: that would be another job."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(body.left())
        try:
            done, _ = await asyncio.wait({working, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                return working.result()
            if leaving in done:
                await self.leave()
                raise ClientGoneError
        finally:
            await end_tasks([working, leaving])
        detail = f"it goes on; ask for /v1/jobs/{self._job.id}"
        raise _TooLongError("job_takes_long", detail, {"x-should-retry": "false"})

    async def leave(self) -> None:
        """Nobody waits any more: no work is left behind, unless somebody may come back for it."""
        if not self._stays:
            with suppress(CallsheetError, Problem):
                await send(self._jobs, self._job.id, Cancel())

    async def end(self) -> Job:
        """The job, once it has ended. Raises Problem when the service stops before that."""
        async with aclosing(self.events(60.0)) as batches:
            async for _ in batches:
                pass
        return await self.now()

    async def begun(self) -> Job | None:
        """None once the recording is known to be one; the job, if it ended before that."""
        async with aclosing(self.events(60.0)) as batches:
            async for batch in batches:
                if any(entry.type in ("StageSucceeded", "PartialResult") for entry in batch):
                    return None
        return await self.now()

    async def now(self) -> Job:
        """The job, which must have ended. Raises Problem."""
        job = await find(self._jobs, self._job.id, self._job.tenant)
        if job.status in ACTIVE:
            await self.leave()
            raise Problem("unavailable", "the service is restarting")
        return job

    async def events(self, idle: float) -> AsyncGenerator[list[FeedEntry], None]:
        """All events of the job, to its end or that of the service; an empty batch after `idle` seconds of silence."""
        after = 0
        with suppress(CursorLostError):  # it was forgotten meanwhile
            async with aclosing(self._feed.follow(self._job.id, after, idle)) as batches:
                async for batch in batches:
                    after = batch[-1].seq if batch else after
                    yield batch
                    if self._feed.is_the_end(self._job.id, after):
                        return


async def _frames(visit: _Visit, store: ArtifactStore, ping_seconds: float) -> AsyncGenerator[bytes, None]:
    """The transcript as it comes, and then whole; or why there is none."""
    over = False
    try:
        said = 0  # utterances that were told: a stage that is tried again begins anew
        async with aclosing(visit.events(ping_seconds)) as batches:
            async for batch in batches:
                fresh = [u for u in _utterances(batch) if u.id >= said]
                for utterance in fresh:
                    yield _delta(utterance.text, apart=said > 0)
                    said = utterance.id + 1
                if not fresh:
                    yield PING
        job = await visit.now()
        over = True
        heard = await read_transcript(store, _completed(job))
        for left in heard.utterances:  # all of them, where what an earlier job had heard was used again
            if left.id >= said:
                yield _delta(left.text, apart=begins_apart(left) and left is not heard.utterances[0])
        yield _data({"type": "transcript.text.done", "text": heard.text, "usage": heard.usage})
    except (Problem, CallsheetError) as error:
        over = True
        yield _data({"error": error_members(problem_of(error))})
    finally:
        if not over:
            await visit.leave()


def _delta(text: str, *, apart: bool) -> bytes:
    return _data({"type": "transcript.text.delta", "delta": f" {text}" if apart else text})


def _utterances(batch: list[FeedEntry]) -> list[Utterance]:
    return [u for entry in batch if entry.type == "PartialResult" for u in _partial(entry.raw).data.partial.utterances]


def _data(members: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % msgspec.json.encode(members)


def _completed(job: Job) -> Job:
    """The job, if it has a transcript. Raises Problem."""
    if job.status != "completed":
        raise failure(job)
    return job
