"""A job's events over WebSocket, and its commands back: the same feed as SSE, one event a text frame."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import falcon.asgi
import msgspec
from falcon import PayloadTypeError, WebSocketDisconnected

from callsheet.actors.client import Jobs
from callsheet.actors.errors import CallsheetError
from callsheet.actors.feeds.job_feed import CursorLostError, Feed
from callsheet.actors.pipelines import Pipelines
from callsheet.actors.tasks import end_tasks
from callsheet.actors.telemetry import tracing
from callsheet.actors.tenants.keyring import Keyring
from callsheet.http.auth import may_still
from callsheet.http.body import parse_object
from callsheet.http.conditions import whole_number
from callsheet.http.events import MAX_SEQ
from callsheet.http.jobs import NoFields, converted, retry_message
from callsheet.http.limits import JobRoom
from callsheet.http.problems import Problem, problem_of
from callsheet.http.reach import find, send, tenant_of
from callsheet.http.represent import job_json
from callsheet.jobs.job import TERMINAL, Job
from callsheet.jobs.messages import Cancel

NORMAL, UNSUPPORTED, POLICY, RESTARTING = 1000, 1003, 1008, 1012
MAX_FRAMES, PER_SECONDS = 20, 1.0  # more than that is a flood
MAX_WAITING = 8  # commands that may wait for their turn
MAX_NAME = 128
ANSWER_SECONDS = 5.0
LAST_WORD_SECONDS = 0.25


class JobSocket:
    """`/v1/jobs/{job_id}/ws`."""

    def __init__(
        self, jobs: Jobs, feed: Feed, pipelines: Pipelines, ping_seconds: float, *, keyring: Keyring, room: JobRoom
    ) -> None:
        self._jobs = jobs
        self._keyring = keyring
        self._room = room
        self._feed = feed
        self._pipelines = pipelines
        self._ping_seconds = ping_seconds

    async def on_get(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response, job_id: str) -> None:
        """A request without the upgrade."""
        await find(self._jobs, job_id, tenant_of(req))
        raise Problem("upgrade_required", headers={"Upgrade": "websocket"})

    async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket, job_id: str) -> None:
        """Watch, and command. Who asks for a job that is not there is refused before the handshake."""
        job = await find(self._jobs, job_id, tenant_of(req))
        after = whole_number(req, "after", 0, 0, MAX_SEQ)
        await ws.accept()
        session = Session(
            self._jobs,
            self._feed,
            self._pipelines,
            ws,
            self._ping_seconds,
            room=self._room,
            may_command=partial(may_still, req, "write", self._keyring),
        )
        await ws.close(await session.run(job, after))


class Session:
    """One watcher: its events go out, its commands come in."""

    def __init__(
        self,
        jobs: Jobs,
        feed: Feed,
        pipelines: Pipelines,
        ws: falcon.asgi.WebSocket,
        ping_seconds: float,
        *,
        room: JobRoom,
        may_command: Callable[[], Awaitable[bool]],
    ) -> None:
        self._jobs = jobs
        self._feed = feed
        self._pipelines = pipelines
        self._ws = ws
        self._ping_seconds = ping_seconds
        self._job = self._tenant = ""
        self._room = room
        self._may_command = may_command  # asked each time: a socket may outlive its key
        self._commands: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
        self._promised = 0  # the seq up to which accepted commands are known to have taken the job

    async def run(self, job: Job, after: int) -> int:
        """Until one side ends it; the code to close with."""
        self._job, self._tenant = job.id, job.tenant
        work = [self._tell(job, after), self._listen(), self._obey()]
        tasks = [asyncio.create_task(_until_left(part)) for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            await end_tasks(tasks)

    # -- events out

    async def _tell(self, job: Job, after: int) -> int:
        while not self._feed.stopping:
            try:
                ended = job.status in TERMINAL and after == job.seq
                if (ended and await self._is_over(after)) or await self._follow(after):
                    return NORMAL
            except CursorLostError:
                job = await find(self._jobs, self._job, self._tenant)
                after = job.seq
                await self._control(type="reset", job=job_json(job))
        return RESTARTING

    async def _follow(self, after: int) -> bool:
        """Send what comes; True once it was all, False when the feed stops."""
        async with contextlib.aclosing(self._feed.follow(self._job, after, self._ping_seconds)) as batches:
            async for batch in batches:
                for entry in batch:
                    await self._ws.send_text(entry.text)
                if not batch:
                    await self._control(type="ping")
                after = batch[-1].seq if batch else after
                if self._feed.is_the_end(self._job, after) and await self._is_over(after):
                    return True
        return False

    async def _is_over(self, seq: int) -> bool:
        """Whether it stays with the end that the watcher has seen. A command may be on its way: it gets a moment, its
        outcome, and, if it opened another attempt, the events of that."""
        await asyncio.sleep(LAST_WORD_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._commands.join()
        return self._promised <= seq and self._feed.is_newest(self._job, seq)

    async def _control(self, **members: Any) -> None:
        """A frame that is no event: it has no seq."""
        await self._ws.send_text(msgspec.json.encode(members).decode())

    # -- commands in

    async def _listen(self) -> int:
        """Take frames as they come; a client that floods is let go."""
        times: deque[float] = deque(maxlen=MAX_FRAMES)
        while True:
            try:
                text = await self._ws.receive_text()
            except PayloadTypeError:
                return UNSUPPORTED
            now = time.monotonic()
            if len(times) == MAX_FRAMES and now - times[0] < PER_SECONDS:
                return POLICY
            times.append(now)
            try:
                self._commands.put_nowait(text)
            except asyncio.QueueFull:
                return POLICY

    async def _obey(self) -> int:
        """Send each command to the job's owner, in order, and say what came of it."""
        while True:
            text = await self._commands.get()
            command, named, answer = None, dict[str, Any](), dict[str, Any]()
            try:
                members = parse_object(text.encode())
                command = members.pop("type", None)
                named = _name(members)
                answer = await self._command(command, members)
            except (Problem, CallsheetError) as error:
                problem = problem_of(error)
                refused = False if problem.status < 500 else None  # None: nobody knows what became of it
                answer = {"ok": refused, "code": problem.code, "detail": problem.detail, **problem.more}
            await self._control(type="outcome", command=command, **named, **answer)
            self._commands.task_done()

    async def _command(self, command: Any, members: dict[str, Any]) -> dict[str, Any]:
        if not await self._may_command():
            raise Problem("forbidden", "this needs a key with the scope 'write'")
        job = await find(self._jobs, self._job, self._tenant)
        if command == "cancel":
            converted(members, NoFields)
            ask = partial(send, self._jobs, job.id, Cancel())
        elif command == "retry":
            retry = partial(send, self._jobs, job.id, retry_message(self._pipelines, job, members, None))
            ask = partial(self._room.enter_again, job, retry)
        else:
            raise Problem("invalid_field", "type is 'cancel' or 'retry'")
        with tracing.span(f"ws {command}", job.origin.traceparent, job=job.id):
            outcome = await ask()
        if outcome is None:
            return {"ok": None, "code": "no_answer"}  # neither done nor refused: it will be applied
        self._promised = max(self._promised, outcome.seq if outcome.ok else 0)
        return {"ok": outcome.ok, "code": outcome.code, "state": outcome.status, "detail": outcome.detail}


async def _until_left(part: Coroutine[Any, Any, int]) -> int:
    """Part of a session; that the client has gone is an end like another, of which each part may hear by itself."""
    try:
        return await part
    except WebSocketDisconnected:
        return NORMAL


def _name(members: dict[str, Any]) -> dict[str, Any]:
    """What the client calls its command, if it calls it anything: its outcome is called so, too. Raises Problem."""
    name = members.pop("id", None)
    if not (name is None or (isinstance(name, str) and len(name) <= MAX_NAME) or type(name) is int):
        raise Problem("invalid_field", f"id is a number, or a text of {MAX_NAME} characters at most")
    return {} if name is None else {"id": name}
