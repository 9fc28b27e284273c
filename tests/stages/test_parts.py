"""The parts of a worker by themselves: the broker, the work folders, the wire to a child, joined reports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from dramatiq import ConnectionClosed
from msgspec.structs import replace

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.broker import Broker, _Consumer, declare, dispatch, generation, make_broker
from callsheet.actors.errors import NoAnswer
from callsheet.actors.pipelines import PipelineError, load_pipelines
from callsheet.actors.stages import process_group
from callsheet.actors.stages.child import Child, ChildSpec
from callsheet.actors.stages.child_main import without_paths
from callsheet.actors.stages.child_wire import Inbox, Ready, Request, Said, Setup, frame, receive
from callsheet.actors.stages.paid import PaidSteps
from callsheet.actors.stages.process_group import group_lives, kill_group
from callsheet.actors.stages.reports import Heard, deliver
from callsheet.actors.stages.work_folders import WorkFolders
from callsheet.config.settings import Settings
from callsheet.jobs.draft import Outcome
from callsheet.jobs.events import Event, JobSubmitted
from callsheet.jobs.evolve import evolve
from callsheet.jobs.job import InputRef, Job, StageState, joined
from callsheet.jobs.messages import Succeeded
from callsheet.pipelines.transcribe import pipeline
from tests.servers import RedisServer
from tests.waiting import eventually


def test_a_dispatch_reaches_a_worker_of_its_queue_and_of_no_other(broker_url: str) -> None:
    broker, received = make_broker(broker_url), []
    declare(broker, "cpu", lambda *dispatched: received.append(dispatched))
    worker = dramatiq.Worker(broker, queues={"cpu"}, worker_threads=1, worker_timeout=20)
    worker.start()
    sender = make_broker(broker_url)
    dispatch(sender, "a" * 32, "act", 2, "io")
    dispatch(sender, "b" * 32, "clip:3", 7, "cpu")
    eventually(lambda: received)
    worker.stop()
    assert received == [("b" * 32, "clip:3", 7)]


def test_the_generation_stays_until_the_broker_is_emptied(broker_server: RedisServer, broker_url: str) -> None:
    first, second = make_broker(broker_url), make_broker(broker_url)
    before = generation(first)
    assert generation(second) == generation(first) == before != ""
    broker_server.flush()
    assert generation(second) == generation(first) != before


def test_what_a_fetch_with_a_lost_answer_took_is_delivered_again(broker_url: str) -> None:
    broker = make_broker(broker_url)
    broker.heartbeat_timeout = 200
    broker.declare_queue("cpu")
    dispatch(broker, "a" * 32, "act", 2, "cpu")
    consumer = broker.consume("cpu", prefetch=1, timeout=20)
    assert broker.do_fetch("cpu", 1)  # its answer is lost on the way: the consumer restarts
    assert next(consumer) is None
    again = broker.consume("cpu", prefetch=1, timeout=20)
    message = eventually(lambda: next(again))
    assert message.args == ("a" * 32, "act", 2)


def test_a_consumer_that_starts_again_fetches_no_more_than_there_are_slots_free(broker_url: str) -> None:
    broker = make_broker(broker_url)
    broker.declare_queue("cpu")
    for n in range(4):
        dispatch(broker, "a" * 32, "act", n, "cpu")
    first = broker.consume("cpu", prefetch=2, timeout=20)
    running = next(first)
    assert running is not None
    assert isinstance(first, _Consumer)
    first.message_cache.clear()  # the other one it has fetched is lost with it
    second = broker.consume("cpu", prefetch=2, timeout=20)
    fetched = [message for message in (next(second) for _ in range(3)) if message is not None]
    assert len(fetched) == 1, "one slot is busy, and one was free"
    first.ack(running)
    assert next(second) is not None


def test_idle_workers_wake_for_work_and_leave_it_in_its_order(broker_url: str) -> None:
    idle, got = [make_broker(broker_url) for _ in range(3)], []
    for broker in idle:
        broker.declare_queue("cpu")

    def take(broker: Broker) -> None:
        consumer = broker.consume("cpu", prefetch=1, timeout=4_000)
        got.append(next(message for message in consumer if message is not None).args)

    threads = [threading.Thread(target=take, args=(broker,)) for broker in idle]
    sender = make_broker(broker_url)
    for thread in threads:
        thread.start()
    eventually(lambda: sender.client.info("clients")["blocked_clients"] >= len(idle))
    for n in range(3):
        dispatch(sender, "a" * 32, "act", n, "cpu")
    for thread in threads:
        thread.join(60)
    assert sorted(got) == [("a" * 32, "act", n) for n in range(3)]


def test_a_broker_that_stalls_is_away_to_a_consumer(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callsheet.actors.broker.ANSWER_SECONDS", 0.2)
    broker = make_broker(broker_url)
    broker.declare_queue("cpu")
    consumer = broker.consume("cpu", prefetch=1, timeout=20)
    assert next(consumer) is None
    with make_broker(broker_url).client as other:
        other.client_pause(1000)
        with pytest.raises(ConnectionClosed):
            next(consumer)


def test_a_look_at_a_queue_changes_nothing_in_it(broker_url: str) -> None:
    broker = make_broker(broker_url)
    broker.declare_queue("cpu")
    consumer = broker.consume("cpu", prefetch=1, timeout=4_000)
    for n in range(3):
        dispatch(broker, "a" * 32, "act", n, "cpu")
    assert isinstance(consumer, _Consumer)
    consumer._wait_for_work()
    taken = []
    for _ in range(3):
        message = next(consumer)
        assert message is not None
        taken.append(message.args[2])
        consumer.ack(message)
    assert taken == [0, 1, 2]


def test_a_work_folder_is_gone_after_its_run_even_if_that_fails(tmp_path: Path) -> None:
    folders, seen = WorkFolders(tmp_path), []

    def run() -> None:
        with folders.folder() as folder:
            seen.append(folder)
            (folder / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert not seen[0].exists()
    folders.close()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_work_folder_serves_again_and_one_that_was_meddled_with_does_not(tmp_path: Path) -> None:
    folders, seen = WorkFolders(tmp_path), []
    for mode in (0o700, 0o700, 0o755, 0o700):
        with folders.folder() as folder:
            assert list(folder.iterdir()) == []
            folder.chmod(mode)
            seen.append(folder)
    with folders.folder() as one, folders.folder() as other:
        assert one != other, "two runs at once in one folder"
    assert (seen[0] == seen[1] == seen[2], seen[2].exists(), seen[3] == seen[2]) == (True, False, False)
    folders.close()


def test_folders_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from callsheet.actors.stages.work_folders import WorkFolders
folders = WorkFolders(Path({str(tmp_path)!r}))
with folders.folder() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""
    dead = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    left = Path(dead.stdout.strip())
    living, sweeper = WorkFolders(tmp_path), WorkFolders(tmp_path)
    with living.folder() as kept:
        assert left.exists()
        sweeper.sweep()
        assert (left.parent.exists(), kept.exists()) == (False, True)
    living.close()
    sweeper.close()
    assert list(tmp_path.iterdir()) == []


def test_messages_come_whole_however_they_are_cut() -> None:
    sent = frame(Said("one")) + frame(Ready()) + frame(Said("üñí"))
    inbox = Inbox()
    heard = [message for byte in sent for message in inbox.feed(bytes([byte]))]
    assert heard == list(Inbox().feed(sent)) == [Said("one"), Ready(), Said("üñí")]


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", b"\0\0\0\2{}", b"\0\0\0\1\xff"])
def test_what_is_no_message_is_a_value_error(sent: bytes) -> None:
    with pytest.raises(ValueError, match="sent"):
        list(Inbox().feed(sent))


def test_the_child_hears_what_was_sent_and_that_the_worker_is_gone() -> None:
    request = Request("one", "act", {"n": 1}, "/w", "/i", "a", "b", 3, item=[1], files={"a": {"b": "/c"}})
    ours, theirs = socket.socketpair()
    ours.sendall(frame(request))
    assert receive(theirs) == request
    ours.close()
    assert receive(theirs) is None
    theirs.close()


def test_ledgers_are_swept_by_several_workers_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = BlockingJobs(settings.journal)
    paid = PaidSteps(settings.model_copy(update={"store_url": "s3://bucket"}), jobs)
    ledgers = [paid.ledger(job * 32) for job in "abc"]
    for ledger in ledgers:
        ledger.mkdir()
        os.utime(ledger, (0, 0))
    os.utime(ledgers[2])
    listed = Path.iterdir

    def and_another_is_faster(self: Path) -> Iterator[Path]:
        found = list(listed(self))
        shutil.rmtree(ledgers[0])
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", and_another_is_faster)
    paid.sweep()
    jobs.close()
    assert [ledger.exists() for ledger in ledgers] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot open '/home/me/a b/c.txt'", "cannot open 'a b/c.txt'"),
        ("/etc/passwd: no such file", "passwd: no such file"),
        ("[Errno 2] No such file: '/var/x/y.wav'", "[Errno 2] No such file: 'y.wav'"),
        ("1/2 is not and/or", "1/2 is not and/or"),
        ("a / b", "a / b"),
    ],
)
def test_paths_of_the_machine_are_left_out_of_messages(text: str, clean: str) -> None:
    assert without_paths(text) == clean


def test_joined_pieces_keep_every_list_entry_and_the_latest_value() -> None:
    assert joined([{"a": [1], "b": 1}, {"a": [2, 3]}, {"b": 2, "c": {}}]) == {"a": [1, 2, 3], "b": 2, "c": {}}


class Deaf:
    """An owner whose first answer is lost, and who refuses what comes after."""

    def __init__(self, status: str, token: int, next_worker: str = "w0") -> None:
        self.asked: list[object] = []
        first = StageState("act", "act", status=status, token=token)  # type: ignore[arg-type]
        following = StageState("next", "next", status="running", token=7, worker=next_worker)
        self.stages = {"act": first, "next": following}

    def ask(self, job: str, message: object) -> Outcome:
        self.asked.append(message)
        if len(self.asked) == 1:
            raise NoAnswer
        return Outcome(False, "stale_report", "running", 9)

    def job(self, job: str) -> Job:
        accepted = evolve(
            None,
            Event(
                1, "JobSubmitted", "", 1, JobSubmitted(job, "t", "p", {}, pipeline.specs, InputRef("a", 1, "", "x/y"))
            ),
        )
        return replace(accepted, stages=self.stages)


@pytest.mark.parametrize(
    ("status", "token", "counts"), [("succeeded", 2, True), ("succeeded", 5, False), ("running", 2, False)]
)
def test_a_success_whose_answer_was_lost_counts_if_the_stage_has_succeeded_with_its_token(
    status: str, token: int, counts: bool
) -> None:
    owner = Deaf(status, token)
    assert deliver(owner, "a" * 32, Succeeded("act", 2), hurried=lambda: False) == Heard(counts)  # type: ignore[arg-type]
    assert len(owner.asked) == 2


@pytest.mark.parametrize(("worker", "handed_on"), [("w7", ("next", 7)), ("w8", None)])
def test_what_was_handed_on_in_an_answer_that_was_lost_is_found_by_the_name_it_was_asked_for_in(
    worker: str, handed_on: tuple[str, int] | None
) -> None:
    owner = Deaf("succeeded", 2, next_worker=worker)
    heard = deliver(owner, "a" * 32, Succeeded("act", 2, onward="w7"), hurried=lambda: False)  # type: ignore[arg-type]
    assert heard == Heard(True, handed_on)


def test_killing_a_group_leaves_no_member_of_it() -> None:
    sleep = "subprocess.Popen(['sleep', '600'])"
    script = f"import subprocess; {sleep}; print('on', flush=True); {sleep}.wait()"
    leader = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    leader.stdout.readline()
    assert group_lives(leader.pid)
    assert kill_group(leader, 60.0)
    assert not group_lives(leader.pid)
    leader.stdout.close()


@pytest.mark.parametrize(("lives", "patience", "dead"), [(2, 60.0, True), (10_000, 0.1, False)])
def test_a_group_is_dead_when_its_last_member_is_and_not_before(
    monkeypatch: pytest.MonkeyPatch, lives: int, patience: float, dead: bool
) -> None:
    seen = iter([True] * lives + [False])
    monkeypatch.setattr(process_group, "group_lives", lambda _: next(seen))
    leader = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)  # it is dead already: the others are what is waited for
    assert kill_group(leader, patience) is dead
    assert leader.returncode == 0
    assert dead is (len(list(seen)) == 0)


def test_a_child_that_cannot_be_started_leaves_no_descriptor_open() -> None:
    cannot = ChildSpec(Setup((), "", 1, 1, 1, 1.0, 1, 1), {"NAME": "with a \0"}, retire_at=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ValueError, match="null"):
        Child(cannot)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_pipelines_are_loaded_by_reference() -> None:
    assert load_pipelines(["callsheet.pipelines.transcribe:pipeline"]) == {"transcribe": pipeline}


@pytest.mark.parametrize(
    ("references", "why"),
    [
        (["callsheet.nowhere:pipeline"], "No module named"),
        (["callsheet.pipelines.transcribe:nothing"], "no attribute"),
        (["callsheet.pipelines.transcribe:probe"], "is a function, not a Pipeline"),
        (["callsheet.pipelines.transcribe:pipeline"] * 2, "there is a pipeline 'transcribe' already"),
    ],
)
def test_a_pipeline_that_cannot_be_had_is_named(references: list[str], why: str) -> None:
    with pytest.raises(PipelineError, match=why):
        load_pipelines(references)
