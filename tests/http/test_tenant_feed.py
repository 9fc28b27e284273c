"""All events of a tenant: each job's exactly 1..n, from any place on, and no event of anybody else."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from callsheet.actors.client import Jobs
from callsheet.actors.committer import Committer
from callsheet.actors.feeds import job_feed as feed_module
from callsheet.actors.feeds.job_feed import CursorLostError
from callsheet.actors.feeds.tenant_feed import TenantEntry, TenantFeed
from callsheet.actors.feeds.tenant_log import cursor_text, read_cursor
from callsheet.actors.journal import Journal
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.jobs import messages as m
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide
from tests.actors.kit import ONE, POLICY, START, put, submission
from tests.servers import RedisServer


class Owner:
    """Commits for real: the scripts of the owner, on jobs of every partition."""

    def __init__(self, url: str, client: Any) -> None:
        self.client = client
        self.partitions = 16
        self._committer = Committer(url)
        self._jobs: dict[str, Job | None] = {}

    def close(self) -> None:
        self._committer.stop()

    def keys(self, job: str) -> PartitionKeys:
        return PartitionKeys(partition_of(job, self.partitions))

    def submit(self, tenant: str = "t1", job: str | None = None) -> str:
        """A job of one stage, which a worker has: three events in two commits."""
        job = job or new_job_id()
        self._jobs[job] = None
        self.client.set(self.keys(job).epoch, 1)
        graph = {"job": job, "graph": ONE}
        self._deliver(job, m.Submit(**{**_members(submission()), **graph, "tenant": tenant}))
        self._deliver(job, m.Claim("a", 2, "w"))
        return job

    def progress(self, job: str, n: int) -> None:
        self._deliver(job, m.Progress("a", 2, n, 0.5, f"at {n}"))

    def forget(self, job: str) -> None:
        """Over, gone, and its files removed: four events more, and then no log."""
        for message in (m.Cancel(), m.Stopped("a", 2), m.Forget(), m.FilesRemoved()):
            self._deliver(job, message)

    def seq(self, job: str) -> int:
        found = self._jobs[job]
        return found.seq if found else 0

    def _deliver(self, job: str, message: m.Message) -> None:
        old = self._jobs[job]
        delivery = put(self.client, self.keys(job), job, message)
        decision = decide(old, message, START, 0.0, POLICY)
        journal = Journal(self._committer, self.client, self.keys(job), 1)
        assert journal.commit(old, delivery, decision, START) is not None
        self._jobs[job] = decision.job


def _members(message: m.Submit) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


@pytest.fixture
def owner(redis_url: str, journal_server: RedisServer) -> Iterator[Owner]:
    with journal_server.client() as client:
        owner = Owner(redis_url, client)
        yield owner
        owner.close()


def run(redis_url: str, story: Callable[[TenantFeed], Awaitable[None]], partitions: int = 16) -> None:
    async def told() -> None:
        jobs = Jobs(redis_url, partitions=partitions)
        feed = TenantFeed(jobs)
        try:
            await asyncio.wait_for(story(feed), 60)
        finally:
            await feed.close()
            await jobs.close()

    asyncio.run(told())


def places(entries: Iterable[TenantEntry]) -> list[tuple[str, int]]:
    """Job and seq of each."""
    return [(told["job"], told["seq"]) for told in (json.loads(entry.raw) for entry in entries)]


def by_job(seen: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """The seqs of each job, in the order in which they were seen."""
    jobs = dict[str, list[int]]()
    for job, seq in seen:
        jobs.setdefault(job, []).append(seq)
    return jobs


async def take(feed: TenantFeed, cursor: tuple[int, ...], count: int) -> list[TenantEntry]:
    """The next events of the live feed."""
    entries = list[TenantEntry]()
    async with aclosing(feed.follow("t1", cursor, 60.0)) as batches:
        async for batch in batches:
            entries += batch
            if len(entries) >= count:
                return entries
    raise AssertionError("the feed ended")


def test_a_watcher_sees_every_event_of_every_job_and_none_of_another_tenant(redis_url: str, owner: Owner) -> None:
    async def story(feed: TenantFeed) -> None:
        cursor = await feed.start("t1")
        watching = asyncio.create_task(take(feed, cursor, 5 * 23))
        jobs = [await asyncio.to_thread(owner.submit) for _ in range(5)]
        await asyncio.to_thread(owner.submit, "t2")
        for n in range(1, 21):
            for job in jobs:
                await asyncio.to_thread(owner.progress, job, n)
        seen = await watching
        assert by_job(places(seen)) == {job: list(range(1, 24)) for job in jobs}
        assert {entry.type for entry in seen} == {
            "JobSubmitted", "StageDispatched", "StageStarted", "StageProgressed",
        }  # fmt: skip

    run(redis_url, story)


def test_from_the_cursor_of_any_event_exactly_the_others_follow_also_within_a_commit(
    redis_url: str, owner: Owner
) -> None:
    async def story(feed: TenantFeed) -> None:
        await feed.start("t1")
        jobs = [owner.submit() for _ in range(4)]
        for n in range(1, 11):
            owner.progress(random.Random(n).choice(jobs), n)
        everything, _ = await feed.history("t1", None, 128)
        assert by_job(places(everything)) == {job: list(range(1, owner.seq(job) + 1)) for job in jobs}
        for at, entry in enumerate(everything):
            cursor = read_cursor(cursor_text(entry.cursor))
            seen, rest = set(places(everything[: at + 1])), list[TenantEntry]()
            while page := (await feed.history("t1", cursor, 3))[0]:
                rest, cursor = rest + page, page[-1].cursor
            assert sorted(places(rest)) == sorted(set(places(everything)) - seen)
            live = await take(feed, entry.cursor, len(rest)) if rest else []
            assert sorted(places(live)) == sorted(places(rest))

    run(redis_url, story)


def test_a_tenant_that_nobody_watches_costs_nothing(redis_url: str, owner: Owner) -> None:
    async def story(feed: TenantFeed) -> None:
        await feed.start("t2")
        job = owner.submit("t1")
        assert not owner.client.exists(owner.keys(job).changes("t1"))
        assert owner.client.keys("cs:*:changes:t1") == []
        assert 0 < owner.client.ttl(owner.keys(job).changes("t2")) <= 7 * 24 * 3600

    run(redis_url, story)


def test_a_cursor_that_the_notes_do_not_continue_from_is_told_so(redis_url: str, owner: Owner) -> None:
    async def story(feed: TenantFeed) -> None:
        start = await feed.start("t1")
        job = owner.submit()
        partition, changes = partition_of(job, 16), owner.keys(job).changes("t1")
        _, end = await feed.history("t1", None, 128)
        owner.progress(job, 1)
        owner.client.xtrim(changes, maxlen=1, approximate=False)
        assert len((await feed.history("t1", end, 128))[0]) == 1, "what is trimmed was seen: nothing is missing"
        beyond = tuple(n + 10 * (p == partition) for p, n in enumerate(end))
        for cursor in (start, beyond, (1, 2, 3)):
            with pytest.raises(CursorLostError):
                await feed.history("t1", cursor, 128)
            with pytest.raises(CursorLostError):
                await take(feed, cursor, 1)
        owner.client.delete(changes)  # a week without anybody, and then another life of it
        later = await feed.start("t1")
        assert later[partition] > end[partition]
        with pytest.raises(CursorLostError):
            await feed.history("t1", end, 128)

    run(redis_url, story)


def test_in_the_place_of_an_event_that_is_gone_with_its_job_stands_that_it_is(redis_url: str, owner: Owner) -> None:
    async def story(feed: TenantFeed) -> None:
        await feed.start("t1")
        gone, left = owner.submit(), owner.submit()
        owner.forget(gone)
        entries, _ = await feed.history("t1", None, 128)
        assert by_job(places(entries)) == {gone: list(range(1, owner.seq(gone) + 1)), left: [1, 2, 3]}
        told = {entry.type for entry in entries if json.loads(entry.raw)["job"] == gone}
        assert told == {"EventForgotten"}

    run(redis_url, story)


def test_many_share_one_reader_and_who_does_not_read_gets_the_rest_later(
    redis_url: str, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RING", 20)
    monkeypatch.setattr(feed_module, "PAGE", 7)

    async def story(feed: TenantFeed) -> None:
        cursor = await feed.start("t1")
        slow = feed.follow("t1", cursor, 60.0)
        quick = [asyncio.create_task(take(feed, cursor, 123)) for _ in range(100)]
        job = await asyncio.to_thread(owner.submit)
        seen = list(await anext(slow))
        for n in range(1, 121):
            await asyncio.to_thread(owner.progress, job, n)
        told = await asyncio.gather(*quick)
        assert all(by_job(places(entries)) == {job: list(range(1, 124))} for entries in told)
        while len(seen) < 123:
            batch = await anext(slow)
            assert len(batch) <= 7
            seen += batch
        assert by_job(places(seen)) == {job: list(range(1, 124))}
        await slow.aclose()

    run(redis_url, story)


def test_what_happens_in_many_partitions_meanwhile_does_not_crowd_out_what_a_watcher_is_still_to_get(
    redis_url: str, owner: Owner
) -> None:
    owner.partitions = 80

    async def story(feed: TenantFeed) -> None:
        start = await feed.start("t1")
        late = owner.submit(job=f"{79:08x}{0:024x}")
        first = (await feed.history("t1", start, 2))[0][-1].cursor
        target = await feed.start("t1")
        for partition in range(79):
            owner.submit(job=f"{partition:08x}{0:024x}")
        tail = feed._join("t1")
        assert places(await feed._page(tail, start, target)) == [(late, 1), (late, 2), (late, 3)]
        assert places(await feed._page(tail, first, target)) == [(late, 3)]
        within = tuple(n - (p == 79) * 2 for p, n in enumerate(target))
        assert places(await feed._page(tail, start, within)) == [(late, 1)], "a commit is cut where the end is"
        tail.watchers -= 1

    run(redis_url, story, partitions=80)


@pytest.mark.parametrize("text", ["", "0", "x.1", "1..2", "-1.2", "1.2 ", "1.2\n", "f" * 14 + ".1", "1." * 3000 + "1"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        read_cursor(text)
