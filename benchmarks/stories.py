"""Jobs as the messages that make them: with the tokens that the owner will give out, since its rules are pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence

import redis

from benchmarks.stand import PARTITIONS
from callsheet.actors.journal import Delivery
from callsheet.actors.keys import PartitionKeys, new_job_id, partition_of
from callsheet.jobs.graph import StageSpec
from callsheet.jobs.job import InputRef, Job
from callsheet.jobs.messages import Claim, Message, Progress, Submit, Succeeded, encode_message
from callsheet.jobs.rules import decide

Told = tuple[str, Message]  # a job, and what it is told
BATCH = 1000
THREE = (StageSpec("first"), StageSpec("second", needs=("first",)), StageSpec("third", needs=("second",)))


def submission(job: str, graph: tuple[StageSpec, ...] = THREE, pipeline: str = "noop") -> Submit:
    """A job over a file of one byte."""
    return Submit(job, "default", pipeline, {}, graph, InputRef("clip.wav", 1, "0" * 64, "audio/wav"))


def whole_life(graph: tuple[StageSpec, ...], reports: int) -> tuple[str, list[Message]]:
    """A new job, and all it is told until it is completed, with `reports` of progress a stage."""
    job_id = new_job_id()
    messages: list[Message] = [submission(job_id, graph)]
    job = decide(None, messages[0], 0).job
    while job is not None and (stage := _dispatched(job)):
        name, token = stage
        told: list[Message] = [Progress(name, token, n, n / reports) for n in range(1, reports + 1)]
        for message in [Claim(name, token, "bench"), *told, Succeeded(name, token)]:
            messages.append(message)
            job = decide(job, message, 0).job
    return job_id, messages


def _dispatched(job: Job | None) -> tuple[str, int] | None:
    states = job.stages.values() if job else ()
    return next(((s.name, s.token) for s in states if s.status == "dispatched"), None)


def taking_turns(stories: Sequence[tuple[str, list[Message]]]) -> Iterator[Told]:
    """The first message of every job, then the second of every job …"""
    for number in range(max(len(messages) for _, messages in stories)):
        for job, messages in stories:
            if number < len(messages):
                yield job, messages[number]


def mailbox_of(job: str) -> str:
    """Where a job is written to."""
    return PartitionKeys(partition_of(job, PARTITIONS)).mailbox


def put_into_mailboxes(client: redis.Redis, told: Iterable[Told]) -> list[Delivery]:
    """Send messages as fast as it goes; each as its owner will find it."""
    rows = [(job, secrets.token_hex(12), message) for job, message in told]
    deliveries: list[Delivery] = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        pipe = client.pipeline(transaction=False)
        for job, mid, message in batch:
            pipe.xadd(mailbox_of(job), {"job": job, "mid": mid, "body": encode_message(message), "reply": ""})
        for entry, (job, mid, message) in zip(pipe.execute(), batch, strict=True):
            deliveries.append(Delivery(entry, job, mid.encode(), b"", message))
    return deliveries


def unread(client: redis.Redis) -> int:
    """Messages that wait in all mailboxes."""
    pipe = client.pipeline(transaction=False)
    for number in range(PARTITIONS):
        pipe.xlen(PartitionKeys(number).mailbox)
    return sum(pipe.execute())
