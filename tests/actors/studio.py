"""A host that delivers webhooks in this process, and who plays the rest of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from callsheet.actors.blocking import BlockingJobs
from callsheet.actors.host import Host
from callsheet.actors.keys import PartitionKeys, new_job_id
from callsheet.actors.webhooks import signing as webhook_secrets
from callsheet.config.settings import Settings
from callsheet.jobs import messages as m
from callsheet.jobs.job import Job, Webhook
from tests.actors.kit import ONE, submission
from tests.receiver import (
    Receiver,
)
from tests.waiting import eventually

Receive = Callable[..., Receiver]
KEYS = PartitionKeys(0)  # the only one
NEVER = (3600.0,)  # one more try, after this test


class Studio:
    """A host in this process, and a client that plays the stages."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self.settings = settings.model_copy(
            update={"partitions": 1, "host_pool_threads": 8, "webhook_timeout_seconds": 20.0}
        )
        self.client = client
        self.jobs = BlockingJobs(settings.journal, partitions=1, reply_timeout=60.0)
        self.hosts: list[Host] = []

    def host(self, *receivers: Receiver, retry: tuple[float, ...] = NEVER, **changes: Any) -> Host:
        allowed = tuple(receiver.place for receiver in receivers)
        update = {"allowed_addresses": allowed, "webhook_retry_seconds": retry, **changes}
        host = Host(self.settings.model_copy(update=update))
        host.start()
        self.hosts.append(host)
        eventually(lambda: self.client.exists(KEYS.lease))
        return host

    def ended(self, url: str, **changes: Any) -> str:
        """A job that has just completed, and whose client is to be told there."""
        job = new_job_id()
        message = msgspec.structs.replace(submission(job, ONE), callback_url=url, **changes)
        assert self.jobs.ask(job, message).ok
        self.complete(job, 2)
        return job

    def complete(self, job: str, token: int) -> None:
        assert self.jobs.ask(job, m.Claim("a", token, "w")).ok
        assert self.jobs.ask(job, m.Succeeded("a", token)).status == "completed"

    def job(self, job: str) -> Job:
        found = self.jobs.job(job)
        assert found is not None
        return found

    def webhook(self, job: str) -> Webhook:
        (webhook,) = self.job(job).webhooks
        return webhook

    def settled(self, job: str) -> Webhook:
        eventually(lambda: self.webhook(job).status != "pending")
        return self.webhook(job)

    def failed(self, job: str) -> Webhook:
        """Once a try has failed."""
        eventually(lambda: self.webhook(job).code)
        return self.webhook(job)

    def secret(self, tenant: str = "t1") -> str:
        return webhook_secrets.of_tenant(self.client, tenant)[0]

    def end(self) -> None:
        self.jobs.close()
        for host in self.hosts:
            host.stop()
