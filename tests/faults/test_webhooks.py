"""Hosts that die around a delivery: each end is told of at least once, always the same, and its fate is seen (I20)."""

from __future__ import annotations

import socket
from collections import defaultdict

import msgspec
import pytest

from callsheet.actors.keys import new_job_id
from callsheet.actors.webhooks.signing import of_tenant
from tests.actors.kit import submission
from tests.faults.conftest import Service
from tests.receiver import Receiver, answers, hangs
from tests.waiting import eventually

POINTS = ["webhook.sending=4", "webhook.sent=5", "webhook.told=6"]


def fails_each_at_first(receiver: Receiver, link: socket.socket) -> None:
    """Half of what comes fails at its first try."""
    this = receiver.got[-1].id
    first = [request.id for request in receiver.got].count(this) == 1
    answers(500 if first and int(this[0], 16) % 2 else 204)(receiver, link)


@pytest.mark.parametrize("failpoint", POINTS)
def test_a_host_killed_around_a_delivery_leaves_it_to_the_next_one(
    service: Service, failpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(fails_each_at_first) as receiver:
        monkeypatch.setenv("CALLSHEET_ALLOWED_ADDRESSES", receiver.place)
        monkeypatch.setenv("CALLSHEET_WEBHOOK_RETRY_SECONDS", ",".join(["0.2"] * 20))
        dying = service.host(failpoints=failpoint).ready()
        service.workers()
        for job in [new_job_id() for _ in range(12)]:
            service.jobs.tell(job, msgspec.structs.replace(submission(job), callback_url=receiver.url))
            service.accepted.append(job)
        eventually(lambda: not dying.alive, why="the failpoint was never reached")
        service.host()
        service.all_end()
        eventually(lambda: all(_settled(service, job) for job in service.accepted), 60.0, "I20: a webhook has no end")
        jobs = service.check()
    bodies = defaultdict(set)
    for request in receiver.got:
        bodies[request.id].add(request.body)
        assert request.verified(of_tenant(service.client, "t1")[0])
    assert {name: len(same) for name, same in bodies.items()} == {
        f"{job.id}-{job.webhooks[0].seq}": 1 for job in jobs.values()
    }
    assert {webhook.status for job in jobs.values() for webhook in job.webhooks} == {"delivered"}


def _settled(service: Service, job: str) -> bool:
    found = service.jobs.job(job)
    return found is not None and all(webhook.status != "pending" for webhook in found.webhooks)


def test_a_journal_that_dies_during_a_delivery_costs_at_most_a_second_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(hangs) as receiver:
        monkeypatch.setenv("CALLSHEET_ALLOWED_ADDRESSES", receiver.place)
        service.host().ready()
        service.workers()
        job = new_job_id()
        service.jobs.tell(job, msgspec.structs.replace(submission(job), callback_url=receiver.url))
        service.accepted.append(job)
        eventually(lambda: receiver.got)
        receiver.behave = answers(204)
        service.journal.restart(kill=True)
        eventually(lambda: len(receiver.got) > 1, why="nobody tries again")
        eventually(lambda: _settled(service, job))
        (webhook,) = service.check()[job].webhooks
    assert (webhook.status, webhook.tries) == ("delivered", 1)
    assert len({(request.id, request.body) for request in receiver.got}) == 1
