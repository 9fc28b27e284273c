"""Messages that cannot be applied, rules and records that are broken, a full mailbox, a clock that jumps."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pykka
import pytest
import structlog

from callsheet.actors import host as hosting
from callsheet.actors import job_actor, performer
from callsheet.actors import wire as sending
from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.clock import wall_clock
from callsheet.actors.errors import CorruptRecord, MailboxFull, NoAnswer
from callsheet.actors.host import Host
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.config.settings import Settings
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Decision
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide
from tests.actors.kit import ONE, check_job, submission
from tests.servers import RedisServer
from tests.waiting import eventually

KEYS = PartitionKeys(0)  # the only one
HOUR = 3600 * 1000


class House:
    """A host in this process, and a client."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self.settings = settings.model_copy(
            update={"partitions": 1, "lease_seconds": 2.0, "idle_seconds": 0.3, "host_pool_threads": 8}
        )
        self.client = client
        self.jobs = BlockingJobs(settings.journal, partitions=1, reply_timeout=60.0)
        self.hosts: list[Host] = []

    def host(self, clock: Callable[[], int] = wall_clock) -> Host:
        host = Host(self.settings, clock)
        host.start()
        self.hosts.append(host)
        eventually(lambda: self.client.exists(KEYS.lease))
        return host

    def submit(self, **params: Any) -> str:
        job = new_job_id()
        assert self.jobs.ask(job, submission(job, ONE, **params)).ok
        return job

    def complete(self, job: str) -> None:
        """Play its only stage."""
        assert self.jobs.ask(job, m.Claim("a", 2, "w")).ok
        assert self.jobs.ask(job, m.Succeeded("a", 2)).status == "completed"

    def letters(self) -> list[bytes]:
        return [fields[b"why"] for _, fields in self.client.xrange(KEYS.dead)]

    def end(self) -> None:
        self.jobs.close()
        for host in self.hosts:
            host.stop()


@pytest.fixture
def house(settings: Settings, journal_server: RedisServer) -> Iterator[House]:
    with journal_server.client() as client:
        house = House(settings, client)
        yield house
        house.end()


GARBAGE: list[dict[str, Any]] = [
    {"job": "{job}", "mid": "x", "body": b"\x00\xff{{{", "reply": ""},
    {"job": "{job}", "mid": "x", "body": "[" * 100_000, "reply": ""},
    {"job": "{job}"},
    {"something": "else"},
    {"job": "x|y", "mid": "x", "body": '{"type":"Cancel"}', "reply": ""},
    {"job": "F" * 32, "mid": "x", "body": '{"type":"Cancel"}', "reply": ""},
    {"job": b"\xff" * 16, "mid": "x", "body": '{"type":"Cancel"}', "reply": ""},
    {"job": "{job}", "mid": "x", "body": b"x" * 1_000_000, "reply": ""},
    {"job": "{job}", "mid": "x", "body": '{"type":"Explode"}', "reply": ""},
    {"job": "{job}", "mid": "x", "body": '{"type":"Claim","stage":["a"],"token":"2"}', "reply": ""},
    {"job": "{job}", "mid": "x", "body": "[]", "reply": ""},
    {"job": "{job}", "mid": b"\xff", "body": '{"type":"Cancel"}', "reply": ""},
]


def test_what_cannot_be_decoded_is_set_aside_and_the_partition_goes_on(house: House) -> None:
    host = house.host()
    job = house.submit()
    with structlog.testing.capture_logs() as logs:
        for fields in GARBAGE:
            house.client.xadd(KEYS.mailbox, {k: job if v == "{job}" else v for k, v in fields.items()})
        house.complete(job)
    eventually(lambda: house.client.xlen(KEYS.mailbox) == 0)
    assert len(house.letters()) == len(GARBAGE)
    assert [entry["log_level"] for entry in logs if entry["event"] == "message set aside"] == ["error"] * len(GARBAGE)
    assert check_job(house.client, KEYS, job).status == "completed"
    assert max(len(fields.get(b"body", b"")) for _, fields in house.client.xrange(KEYS.dead)) <= 16_384
    eventually(lambda: host._in_hand == 0)


def test_a_rule_that_raises_costs_its_message_and_the_asker_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.host()
    good, bad = house.submit(), house.submit(poison=True)

    def broken(job: Job | None, message: m.Message, *rest: Any) -> Decision:
        if job is not None and "poison" in job.params and isinstance(message, m.Cancel):
            raise ZeroDivisionError("a bug in a rule")
        return decide(job, message, *rest)

    monkeypatch.setattr(job_actor, "decide", broken)
    with structlog.testing.capture_logs() as logs:
        outcome = house.jobs.ask(bad, m.Cancel())
    assert (outcome.ok, outcome.code) == (False, "message_rejected")
    assert house.letters() == [b"ZeroDivisionError: a bug in a rule"]
    assert [entry["log_level"] for entry in logs if entry["event"] == "message set aside"] == ["error"]
    house.complete(good)
    house.complete(bad)
    monkeypatch.undo()
    for job in (good, bad):
        assert check_job(house.client, KEYS, job).status == "completed"


@pytest.mark.parametrize("field", ["status", "stages", "seq", "stage.a", "order"])
def test_a_record_that_cannot_be_read_costs_its_own_messages_only(house: House, field: str) -> None:
    host = house.host()
    good, bad = house.submit(), house.submit()
    eventually(lambda: host.owned[0].in_flight == 0)
    host.owned[0].retire_idle(0)
    assert len(host.owned[0]._seats) == 0
    if field == "stages":
        house.client.hset(KEYS.snapshot(bad), "graph", b"not JSON")
    elif field == "order":
        house.client.hdel(KEYS.snapshot(bad), "order")
    else:
        house.client.hset(KEYS.snapshot(bad), field, b'{"not": "it"}')
    assert house.jobs.ask(bad, m.Cancel()).code == "message_rejected"
    with pytest.raises(CorruptRecord):
        house.jobs.job(bad)
    house.complete(good)
    assert check_job(house.client, KEYS, good).status == "completed"
    assert len(house.letters()) == 1


def test_a_mailbox_at_its_bound_is_full_until_somebody_reads_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_MAILBOX", 5)
    jobs = [new_job_id() for _ in range(5)]
    for job in jobs:
        house.jobs.tell(job, submission(job, ONE))
    with pytest.raises(MailboxFull):
        house.jobs.tell(jobs[0], m.Cancel())
    assert house.client.xlen(KEYS.mailbox) == 5
    house.host()
    eventually(lambda: house.client.xlen(KEYS.mailbox) == 0)
    house.complete(jobs[0])
    for job in jobs:
        check_job(house.client, KEYS, job)


def test_each_of_many_threads_hears_the_answer_to_its_own_question(house: House) -> None:
    house.host()
    job = house.submit()

    def question(n: int) -> tuple[str, int]:
        with contextlib.suppress(NoAnswer):  # it is answered late, to one who has given up and asks something else
            house.jobs.ask(job, m.Claim("a", 99, "nobody"), timeout=0.0001)
        other = house.submit()
        outcome = house.jobs.ask(other, m.Claim("a", 2, "w")) if n % 2 else house.jobs.ask(other, m.Cancel())
        return outcome.status, outcome.seq

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(question, range(80)))
    assert answers == [("cancelled", 5), ("running", 3)] * 40


def test_who_lost_the_connection_for_answers_is_answered_all_the_same(house: House) -> None:
    house.host()
    house.submit()
    assert house.client.client_kill_filter(_type="pubsub") >= 1
    assert house.submit()


def test_clocks_that_jump_by_an_hour_change_nothing(house: House) -> None:
    """A host whose clock is wrong neither loses its lease, nor hurries or delays a timer, nor takes a stage away."""
    now = {"ahead": 0}
    host = house.host(lambda: wall_clock() + now["ahead"])
    epoch = house.client.get(KEYS.epoch)
    jobs = []
    for ahead in (0, HOUR, -HOUR, HOUR):
        now["ahead"] = ahead
        job = house.submit()
        jobs.append(job)
        assert house.jobs.ask(job, m.Claim("a", 2, "w")).ok
        seconds, micros = house.client.time()
        due = house.client.zscore(KEYS.timers, f"{job}|alive:a") - (seconds * 1000 + micros // 1000)
        assert 0 < due <= house.settings.worker_lost_after_seconds * 1000
        for older in jobs:
            assert house.jobs.ask(older, m.Heartbeat("a", 2)).ok
    eventually(lambda: house.client.pttl(KEYS.lease) < 1_900)
    eventually(lambda: 1_900 < house.client.pttl(KEYS.lease) <= 2_000, why="the lease is not renewed")
    for job in jobs:
        assert house.jobs.ask(job, m.Succeeded("a", 2)).status == "completed"
        check_job(house.client, KEYS, job)
    assert (house.client.get(KEYS.epoch), host.owned[0].lost) == (epoch, False)


def test_an_hour_ahead_a_lost_worker_is_still_noticed_in_time(house: House) -> None:
    house.settings = house.settings.model_copy(update={"worker_lost_after_seconds": 0.5})
    house.host(lambda: wall_clock() - HOUR)
    job = house.submit()
    assert house.jobs.ask(job, m.Claim("a", 2, "w")).ok
    eventually(lambda: "StageFailed" in [event.type for event in house.jobs.events(job)])
    eventually(lambda: house.jobs.stage(job, "a")[1].status == "dispatched")  # type: ignore[union-attr]
    check_job(house.client, KEYS, job)


def test_files_that_cannot_be_swept_cost_no_partition(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "SWEEP_SECONDS", 0.01)
    swept = threading.Semaphore(0)

    def broken(_seconds: float) -> None:
        swept.release()
        raise PermissionError("not yours")

    host = Host(house.settings)
    monkeypatch.setattr(host._store, "sweep", broken)
    house.hosts.append(host)
    host.start()
    house.complete(house.submit())
    epoch = house.client.get(KEYS.epoch)
    for _ in range(5):
        assert swept.acquire(timeout=60)
    assert (host.owned[0].lost, house.client.get(KEYS.epoch)) == (False, epoch)


def test_an_effect_that_fails_in_a_way_nobody_expected_is_performed_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performer, "FAILED_SECONDS", 0.05)
    host = house.host()
    tidy, failing = host._store.tidy, itertools.count()

    def sometimes(*what: Any) -> None:
        if next(failing) < 2:
            raise RuntimeError("a bug")
        tidy(*what)

    monkeypatch.setattr(host._store, "tidy", sometimes)
    house.complete(house.submit())
    eventually(lambda: house.client.hlen(KEYS.outbox) == 0, why="it stays undone")
    assert next(failing) >= 3  # an effect may be performed more than once


def test_finished_jobs_leave_nothing_in_the_host_and_idle_ones_no_thread(house: House) -> None:
    host = house.host()
    registered = len(pykka.ActorRegistry.get_all())
    threads = threading.active_count()
    jobs = [new_job_id() for _ in range(500)]
    pipe = house.client.pipeline(transaction=False)
    for message in (submission, None):
        for job in jobs:
            bodies = [submission(job, ONE)] if message else [m.Claim("a", 2, "w"), m.Succeeded("a", 2)]
            for body in bodies:
                fields = {"job": job, "mid": "", "body": msgspec.json.encode(body), "reply": ""}
                pipe.xadd(KEYS.mailbox, fields)
        if message is None:
            pipe.execute()
    eventually(lambda: house.client.xlen(KEYS.mailbox) == 0)
    statuses = {house.client.hget(KEYS.snapshot(job), "status") for job in jobs}
    assert statuses == {b'"completed"'}
    eventually(lambda: sum(len(o._seats) for o in host.owned.values()) == 0)
    eventually(lambda: len(pykka.ActorRegistry.get_all()) <= registered)
    idle = [house.submit() for _ in range(100)]
    assert sum(len(o._seats) for o in host.owned.values()) <= 100
    assert threading.active_count() <= threads + 2
    eventually(lambda: sum(len(o._seats) for o in host.owned.values()) == 0, why="idle actors stay in memory")
    house.complete(idle[0])


def test_a_lost_partition_leaves_nothing_in_the_host(house: House) -> None:
    house.settings = house.settings.model_copy(update={"idle_seconds": 600.0})
    host = house.host()
    registered = len(pykka.ActorRegistry.get_all())
    jobs = [house.submit() for _ in range(50)]
    owned = host.owned[0]
    assert len(owned._seats) == 50
    house.client.incr(KEYS.epoch)  # somebody else has it
    house.jobs.tell(jobs[0], m.Cancel())
    eventually(lambda: owned.lost)
    eventually(lambda: len(owned._seats) == 0)
    eventually(lambda: len(pykka.ActorRegistry.get_all()) <= registered + 1, why="actors of a lost partition stay")
    eventually(lambda: house.jobs.job(jobs[0]).status == "cancelled")  # type: ignore[union-attr]
    house.complete(jobs[1])
