"""One job and its owner, at the scripts that a commit goes through."""

from __future__ import annotations

from typing import Any

from callsheet.actors.committer import Committer
from callsheet.actors.journal import Delivery, Journal, OutboxItem
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.jobs import messages as m
from callsheet.jobs.draft import Decision
from callsheet.jobs.job import Job
from callsheet.jobs.rules import decide
from tests.actors.kit import POLICY, START, log_of, put, submission

KEYS = PartitionKeys(3)


class Stage:
    """One job, its owner's view of it, and the journal under one epoch."""

    def __init__(self, url: str, client: Any) -> None:
        self.client = client
        self.committer = Committer(url)
        self.id = new_job_id()
        self.journal = self.taken_by("h1")
        self.job: Job | None = None
        self.deliver(submission(self.id))

    def taken_by(self, host: str) -> Journal:
        self.client.delete(KEYS.lease)
        epoch = int(self.committer.run("lease", [KEYS.lease, KEYS.epoch], ["take", host, 60_000, 0]))
        return Journal(self.committer, self.client, KEYS, epoch)

    def put(self, message: m.Message, mid: str = "", reply: str = "") -> Delivery:
        return put(self.client, KEYS, self.id, message, mid=mid, reply=reply)

    def decide(self, delivery: Delivery) -> Decision:
        return decide(self.job, delivery.message, START, 0.0, POLICY)

    def commit(self, delivery: Delivery, journal: Journal | None = None) -> list[OutboxItem] | None:
        """Decide on what is known of the job, commit, and know more."""
        decision = self.decide(delivery)
        outbox = (journal or self.journal).commit(self.job, delivery, decision, START)
        if outbox is not None:
            self.job = decision.job
        return outbox

    def deliver(self, message: m.Message, mid: str = "", reply: str = "") -> list[OutboxItem] | None:
        return self.commit(self.put(message, mid, reply))

    def claim(self, stage: str = "a") -> None:
        assert self.job
        self.deliver(m.Claim(stage, self.job.stages[stage].token, "w"))

    def log(self) -> list[str]:
        return [entry.type for entry in log_of(self.client, KEYS, self.id)]
