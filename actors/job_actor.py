"""The owner of one job: the only one who ever decides about it. Its mailbox is handled in order, one at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import structlog

from callsheet.actors.committer import JournalDownError
from callsheet.actors.errors import CorruptRecord
from callsheet.actors.failpoints import failpoint
from callsheet.actors.journal import Delivery, Journal, LostOwnershipError, OutboxItem
from callsheet.actors.pool import Pool, PooledActor
from callsheet.actors.telemetry import tracing
from callsheet.jobs.draft import Decision, Policy
from callsheet.jobs.job import ACTIVE, Job, Origin
from callsheet.jobs.messages import Chatter, Heartbeat, Submit, encode_message
from callsheet.jobs.rules import decide

log = structlog.get_logger("host")
ENDS = {"JobCompleted": "job completed", "JobFailed": "job failed", "JobCancelled": "job cancelled"}


class Owner(Protocol):
    """What the actor needs of the ownership of its partition."""

    journal: Journal
    policy: Policy

    def now(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def jitter(self) -> float:
        """A random number in [0, 1)."""
        ...

    def perform(self, items: list[OutboxItem]) -> None:
        """Have effects performed that a commit has put into the outbox."""
        ...

    def lose(self, why: str) -> None:
        """Stop acting as the owner of the partition."""
        ...

    def handled(self, job: str, resting: bool) -> None:
        """One message to this job is done with; `resting`: nothing is expected to happen to it soon."""
        ...

    @property
    def lost(self) -> bool:
        """Nothing may be done in the partition's name any more."""
        ...


class JobActor(PooledActor):
    """Decide, commit, perform. The state is the last committed one: it is assigned after the commit, never before."""

    def __init__(self, pool: Pool, owner: Owner, job_id: str) -> None:
        super().__init__(pool)
        self.owner = owner
        self.job_id = job_id
        self.job: Job | None = None
        self._loaded = False

    @property
    def resting(self) -> bool:
        """Nothing is expected to happen to this job soon: it need not be kept in memory."""
        return self.job is None or self.job.status not in ACTIVE

    def on_receive(self, delivery: Delivery) -> None:
        """Handle one message; whatever goes wrong, it is either applied once or still in the mailbox or set aside."""
        try:
            if not self.owner.lost:  # else the message stays in the mailbox, for the next owner
                self._load()
                with span_of(self.job, delivery):
                    self._apply(delivery)
        except (LostOwnershipError, JournalDownError) as error:
            self.owner.lose(str(error))
        except Exception as error:  # a rule or a record is broken: this message must not stop the partition
            log.exception("message set aside", job=self.job_id, message=type(delivery.message).__name__)
            self._set_aside(delivery, error)
        finally:
            self.owner.handled(self.job_id, self.resting)

    def _load(self) -> None:
        if not self._loaded:
            self.job = self.owner.journal.load(self.job_id)
            self._loaded = True

    def _apply(self, delivery: Delivery) -> None:
        now = self.owner.now()
        decision = decide(self.job, delivery.message, now, self.owner.jitter(), self.owner.policy)
        failpoint("host.decided")
        effects = self.owner.journal.commit(self.job, delivery, decision, now)
        failpoint("host.committed")
        if effects is None:
            return
        self.job = decision.job
        self.owner.perform(effects)
        self._log_the_end(decision)

    def _log_the_end(self, decision: Decision) -> None:
        """Each end of a job is a line in the log, whoever brought it about."""
        for event in decision.events:
            if event.type in ENDS and decision.job:
                error = decision.job.error
                why = {"code": error.code, "stage": error.stage, "why": error.message} if error else {}
                request_id = decision.job.origin.request_id
                log.info(ENDS[event.type], job=self.job_id, attempt=event.attempt, **why, request_id=request_id)

    def _set_aside(self, delivery: Delivery, error: Exception) -> None:
        why = str(error) if isinstance(error, CorruptRecord) else f"{type(error).__name__}: {error}"
        try:
            fields = {
                b"job": delivery.job.encode(),
                b"mid": delivery.mid,
                b"body": encode_message(delivery.message),
                b"reply": delivery.reply,
            }
            self.owner.journal.set_aside(delivery.entry, fields, why)
        except (LostOwnershipError, JournalDownError) as lost:
            self.owner.lose(str(lost))
        except Exception as broken:  # it must not end this actor: what waits behind it would be under way for good
            log.exception("message not set aside", job=self.job_id)
            self.owner.lose(f"a message could not be set aside: {broken!r}")


def span_of(job: Job | None, delivery: Delivery) -> AbstractContextManager[Any]:
    """The span of a decision and its commit, in the trace of the request that made the job. Chatter has none."""
    message = delivery.message
    if not tracing.is_on() or isinstance(message, Chatter | Heartbeat):
        return nullcontext()
    origin = job.origin if job else message.origin if isinstance(message, Submit) else Origin()
    return tracing.span(f"decide {type(message).__name__}", origin.traceparent, job=delivery.job)
