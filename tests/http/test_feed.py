"""The shared reader of journals: every watcher gets exactly 1..n, whatever happens to pokes, rings and Redis (I23)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from callsheet.actors.client import Jobs
from callsheet.actors.feeds import pokes
from callsheet.actors.feeds.job_feed import PAGE, RING, CursorLostError, Feed, FeedEntry
from callsheet.actors.keys import PartitionKeys, feed_channel, new_job_id, partition_of
from callsheet.actors.tasks import end_tasks
from callsheet.actors.wire import EventEntry
from tests.servers import RedisServer


class Writer:
    """Writes journals as a commit does: the entry, the snapshot's seq, and the poke."""

    def __init__(self, jobs: Jobs) -> None:
        self.job = new_job_id()
        self.seq = 0
        self._redis = jobs.redis
        self._keys = PartitionKeys(partition_of(self.job, 16))

    async def write(self, count: int = 1, *, poke: bool = True, kind: str = "StageProgressed") -> None:
        pipe = self._redis.pipeline(transaction=False)
        for _ in range(count):
            self.seq += 1
            event = msgspec.json.encode({"seq": self.seq, "type": kind, "data": {}})
            pipe.xadd(self._keys.log(self.job), {"t": kind, "e": event}, id=f"{self.seq}-0")
            if poke:
                pipe.publish(feed_channel(self.job), "")
        await pipe.execute()

    async def erase(self) -> None:
        await self._redis.delete(self._keys.log(self.job))
        await self._redis.publish(feed_channel(self.job), "")


class Watcher:
    """Follows in a task, and keeps what it sees."""

    def __init__(self, feed: Feed, job: str, after: int = 0, idle: float = 60.0) -> None:
        self.seen: list[int] = []
        self.idled = 0
        self._more = asyncio.Condition()
        self.task = asyncio.create_task(self._watch(feed.follow(job, after, idle)))

    async def until(self, seq: int, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(lambda: bool(self.seen) and self.seen[-1] >= seq)

    async def _watch(self, batches: AsyncIterator[list[FeedEntry]]) -> None:
        async for batch in batches:
            async with self._more:
                self.idled += not batch
                self.seen += [entry.seq for entry in batch]
                self._more.notify_all()


def run(redis_url: str, story: Callable[[Jobs, Feed], Awaitable[None]]) -> None:
    async def told() -> None:
        jobs = Jobs(redis_url)
        feed = Feed(jobs)
        try:
            await asyncio.wait_for(story(jobs, feed), 60)
        finally:
            await feed.close()
            await jobs.close()

    asyncio.run(told())


def test_watchers_get_what_was_and_what_comes_at_once(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pokes, "LOOK_SECONDS", 600.0)  # so what comes comes by a poke

    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(5)
        early, late = Watcher(feed, writer.job), Watcher(feed, writer.job, after=3)
        await early.until(5)
        for _ in range(20):
            await writer.write()
            await early.until(writer.seq)
        await late.until(25)
        assert early.seen == list(range(1, 26))
        assert late.seen == list(range(4, 26))

    run(redis_url, story)


def test_a_lost_poke_costs_time_and_no_event(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pokes, "LOOK_SECONDS", 0.1)

    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        watcher = Watcher(feed, writer.job)
        for _ in range(5):
            await writer.write(3, poke=False)
            await watcher.until(writer.seq)
        assert watcher.seen == list(range(1, 16))

    run(redis_url, story)


def test_a_listener_that_died_is_replaced_for_the_next_watcher_and_for_all(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pokes, "LOOK_SECONDS", 60.0)  # so what comes comes by a poke

    async def story(jobs: Jobs, feed: Feed) -> None:
        writers = [Writer(jobs), Writer(jobs)]
        first = Watcher(feed, writers[0].job)
        await writers[0].write()
        await first.until(1)
        listener = feed._pokes._listener
        assert listener is not None
        await end_tasks([listener])
        second = Watcher(feed, writers[1].job)
        for writer, watcher in zip(writers, (first, second), strict=True):
            await writer.write()
            await watcher.until(writer.seq)

    run(redis_url, story)


def test_a_watcher_far_behind_reads_the_journal_and_joins_the_others(redis_url: str) -> None:
    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(3 * RING)
        ahead = Watcher(feed, writer.job, after=3 * RING)
        behind = Watcher(feed, writer.job)
        await behind.until(3 * RING)
        await writer.write(10)
        await behind.until(writer.seq)
        await ahead.until(writer.seq)
        assert behind.seen == list(range(1, writer.seq + 1))
        assert ahead.seen == list(range(3 * RING + 1, writer.seq + 1))

    run(redis_url, story)


def test_a_watcher_that_does_not_read_holds_one_batch_and_gets_the_rest_later(redis_url: str) -> None:
    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(1)
        slow = feed.follow(writer.job, 0, 60.0)
        seen = [entry.seq for entry in await anext(slow)]
        await writer.write(4 * RING)
        quick = Watcher(feed, writer.job)
        await quick.until(writer.seq)
        while seen[-1] < writer.seq:
            batch = await anext(slow)
            assert len(batch) <= PAGE
            seen += [entry.seq for entry in batch]
        assert seen == list(range(1, writer.seq + 1))
        await slow.aclose()

    run(redis_url, story)


def test_a_thousand_watchers_cost_one_reader(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pokes, "LOOK_SECONDS", 600.0)  # however long it takes, time alone makes nobody read

    async def story(jobs: Jobs, feed: Feed) -> None:
        reads = 0
        read = jobs.events

        async def counted(job: str, after: int = 0, limit: int = 500) -> list[EventEntry]:
            nonlocal reads
            reads += 1
            return await read(job, after, limit)

        jobs.events = counted  # type: ignore[method-assign]
        writer = Writer(jobs)
        watchers = [Watcher(feed, writer.job) for _ in range(1000)]
        for _ in range(10):
            await writer.write()
            await asyncio.gather(*(watcher.until(writer.seq) for watcher in watchers))
        assert all(watcher.seen == list(range(1, 11)) for watcher in watchers)
        assert reads < 60, reads

    run(redis_url, story)


def test_a_cursor_that_the_journal_does_not_know_is_told_so(redis_url: str) -> None:
    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(RING + 50)
        with pytest.raises(CursorLostError):
            await anext(feed.follow(writer.job, writer.seq + 1, 60.0))
        await jobs.redis.xtrim(PartitionKeys(partition_of(writer.job, 16)).log(writer.job), maxlen=40)
        fresh = Feed(jobs)
        with pytest.raises(CursorLostError):
            await anext(fresh.follow(writer.job, 3, 60.0))
        await fresh.close()

    run(redis_url, story)


def test_a_cursor_ahead_of_the_reader_is_no_cursor_beyond_the_end(redis_url: str) -> None:
    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(3)
        first = Watcher(feed, writer.job)
        await first.until(3)
        await writer.write(4, poke=False)
        ahead = Watcher(feed, writer.job, after=7)  # the client knows of 7 from elsewhere; the reader only of 3
        await writer.write()
        await ahead.until(8)
        assert ahead.seen == [8]

    run(redis_url, story)


def test_watchers_of_an_erased_journal_are_let_go(redis_url: str) -> None:
    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(3)
        watcher = Watcher(feed, writer.job)
        await watcher.until(3)
        await writer.erase()
        with pytest.raises(CursorLostError):
            await watcher.task

    run(redis_url, story)


def test_silence_is_reported_and_stopping_ends_every_watcher(redis_url: str) -> None:
    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(1)
        watchers = [Watcher(feed, writer.job, idle=0.05) for _ in range(3)]
        while min(w.idled for w in watchers) < 2:  # noqa: ASYNC110  each idles on its own
            await asyncio.sleep(0.01)
        feed.stop()
        await asyncio.gather(*(watcher.task for watcher in watchers))

    run(redis_url, story)


def test_an_unwatched_job_is_forgotten_after_a_while(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pokes, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pokes, "LINGER_SECONDS", 0.1)

    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        for _ in range(3):
            await writer.write()
            watcher = Watcher(feed, writer.job)
            await watcher.until(writer.seq)
            watcher.task.cancel()
            while feed._tails:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while await jobs.redis.pubsub_channels(feed_channel("*")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(redis_url, story)


def test_watchers_outlive_a_redis_that_dies_and_comes_back(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_redis()

    async def story(jobs: Jobs, feed: Feed) -> None:
        writer = Writer(jobs)
        await writer.write(5)
        watchers = [Watcher(feed, writer.job) for _ in range(10)]
        await asyncio.gather(*(watcher.until(5) for watcher in watchers))
        await asyncio.to_thread(server.restart, kill=True)
        newcomer = Watcher(feed, writer.job, after=2)
        await writer.write(5)
        await asyncio.gather(*(watcher.until(10) for watcher in [*watchers, newcomer]))
        monkeypatch.setattr(pokes, "LOOK_SECONDS", 600.0)
        for seq in (11, 12):  # the first one may come by a look that was under way; pokes arrive again, too
            await writer.write(1)
            await watchers[0].until(seq)
        assert all(watcher.seen[:10] == list(range(1, 11)) for watcher in watchers)
        assert newcomer.seen[:8] == list(range(3, 11))

    run(server.url, story)
