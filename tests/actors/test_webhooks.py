"""Webhooks over real sockets: signed, in order, within bounds, whatever the receiver does (I20)."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from callsheet.actors.webhooks import deliverer as webhooks
from callsheet.jobs import messages as m
from callsheet.jobs import webhooks as rules
from tests.actors.kit import check_job
from tests.actors.studio import KEYS, Receive, Studio
from tests.receiver import (
    Behaviour,
    answers,
    bombs,
    drips,
    drips_headers,
    floods,
    floods_with_headers,
    hangs,
    hangs_up,
    hints,
    waits,
)
from tests.waiting import eventually


def test_an_end_is_told_of_under_a_signature_that_an_independent_library_verifies(
    studio: Studio, receive: Receive
) -> None:
    receiver = receive()
    studio.host(receiver)
    job = studio.ended(f"{receiver.url}?token=1")
    webhook = studio.settled(job)
    assert (webhook.status, webhook.status_code, webhook.tries) == ("delivered", 204, 1)
    request = receiver.got[0]
    told = request.verified(studio.secret())
    assert (request.path, request.id) == ("/hook?token=1", f"{job}-{webhook.seq}")
    assert (told["type"], told["data"]["id"], told["data"]["seq"]) == ("job.completed", job, webhook.seq)
    assert request.headers["host"] == receiver.place
    with pytest.raises(WebhookVerificationError):
        request._replace(body=request.body + b" ").verified(studio.secret())
    eventually(lambda: studio.client.hlen(KEYS.outbox) == 0)
    check_job(studio.client, KEYS, job)


SLOW: dict[str, tuple[Behaviour, str, int | None]] = {
    "hangs": (hangs, "timeout", None),
    "drips": (drips, "timeout", 200),
    "drips headers": (drips_headers, "timeout", None),
    "hints": (hints, "timeout", None),
}
BAD: dict[str, tuple[Behaviour, str, int | None]] = {
    "floods": (floods, "answer_too_large", 200),
    "floods with headers": (floods_with_headers, "connection_lost", None),
    "says 500": (answers(500, b"x" * 100), "refused", 500),
    "says 404": (answers(404), "refused", 404),
    "hangs up": (hangs_up, "connection_lost", None),
    "speaks gibberish": (lambda _, link: link.sendall(b"hello\r\n\r\n"), "connection_lost", None),
}


@pytest.mark.parametrize(("bad", "seconds"), [(SLOW, 3.0), (BAD, 60.0)], ids=["slow", "wrong"])
def test_a_receiver_that_misbehaves_has_not_got_it(
    studio: Studio, receive: Receive, bad: dict[str, tuple[Behaviour, str, int | None]], seconds: float
) -> None:
    receivers = {name: receive(behave) for name, (behave, _, _) in bad.items()}
    studio.host(*receivers.values(), webhook_timeout_seconds=seconds)
    jobs = {name: studio.ended(receiver.url) for name, receiver in receivers.items()}
    found = {name: studio.failed(job) for name, job in jobs.items()}
    assert {name: [w.code, w.status_code] for name, w in found.items()} == {n: facts for n, (_, *facts) in bad.items()}
    assert {w.status for w in found.values()} == {"pending"}
    assert all(w.next_try_at for w in found.values())
    some = next(iter(jobs.values()))
    (event,) = [e for e in studio.jobs.events(some) if e.type == "WebhookFailed"]
    kept = {"webhook", "n", "code", "status_code", "duration", "next_try_at"}
    assert set(json.loads(event.raw)["data"]) == kept, "nothing that the receiver said"


def test_an_answer_is_not_unpacked(studio: Studio, receive: Receive) -> None:
    receiver = receive(bombs)
    studio.host(receiver)
    assert studio.settled(studio.ended(receiver.url)).status == "delivered"


def test_a_redirect_is_not_followed_and_a_place_that_is_not_allowed_is_not_knocked_at(
    studio: Studio, receive: Receive
) -> None:
    canary = receive()
    receiver = receive(answers(302, Location=canary.url))
    studio.host(receiver)
    redirected, forbidden = studio.ended(receiver.url), studio.ended(canary.url)
    assert studio.failed(redirected).code == "redirected"
    assert studio.failed(forbidden).code == "url_forbidden"
    assert canary.connected == 0


def test_a_name_is_looked_up_at_each_try_and_one_bad_address_spoils_it(
    studio: Studio, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = receive()
    asked, look_up = list[str](), socket.getaddrinfo

    def answer(host: Any, *args: Any, **more: Any) -> Any:
        if host != "hook.example":
            return look_up(host, *args, **more)
        asked.append(host)
        return [(2, 1, 6, "", (address, canary.port)) for address in ("8.8.8.8", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    studio.host(retry=(0.1, 0.1, 3600.0))
    job = studio.ended(f"http://hook.example:{canary.port}/hook")
    eventually(lambda: studio.webhook(job).tries == 3)
    assert studio.webhook(job).code == "url_forbidden"
    assert len(asked) >= 3
    assert canary.connected == 0


def test_no_proxy_of_the_environment_is_asked(
    studio: Studio, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, receiver = receive(), receive()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{canary.place}")
    studio.host(receiver)
    assert studio.settled(studio.ended(receiver.url)).status == "delivered"
    assert canary.connected == 0


def test_nobody_there_is_a_failed_try_and_a_name_without_address_too(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def answer(host: Any, *args: Any, **more: Any) -> Any:
        if host == "nothing.invalid":  # some networks have an address even for this
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with socket.socket() as taken:  # a port that nobody else is given, and at which nobody listens
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        studio.host(allowed_addresses=(place,))
        assert studio.failed(studio.ended(f"http://{place}/hook")).code == "unreachable"
    assert studio.failed(studio.ended("http://nothing.invalid/hook")).code == "host_unknown"


def test_a_receiver_that_is_gone_is_given_up_at_once(studio: Studio, receive: Receive) -> None:
    receiver = receive(answers(410))
    studio.host(receiver)
    webhook = studio.settled(studio.ended(receiver.url))
    assert (webhook.status, webhook.code, webhook.tries) == ("given_up", "gone", 1)


def test_each_try_says_the_same_under_the_same_id_and_the_end_of_all_is_visible(
    studio: Studio, receive: Receive
) -> None:
    receiver = receive(answers(503))
    studio.host(receiver, retry=(0.05, 0.05))
    job = studio.ended(receiver.url)
    assert (studio.settled(job).status, studio.webhook(job).tries) == ("given_up", 3)
    receiver.behave = answers(200)
    assert studio.jobs.ask(job, m.Redeliver()).ok
    eventually(lambda: studio.webhook(job).status == "delivered")
    assert len({(request.id, request.body) for request in receiver.got}) == 1
    for request in receiver.got:
        assert request.verified(studio.secret())
    types = [entry.type for entry in studio.jobs.events(job)][4:]
    assert types == ["JobCompleted", *["WebhookFailed"] * 3, "WebhookGivenUp", "WebhookRequested", "WebhookDelivered"]
    check_job(studio.client, KEYS, job)


def test_two_ends_of_a_job_arrive_in_order_though_the_first_one_fails_at_first(
    studio: Studio, receive: Receive
) -> None:
    receiver = receive(answers(500))
    studio.host(receiver, retry=(0.5,) * 20)
    job = studio.ended(receiver.url)
    studio.jobs.ask(job, m.Retry())
    studio.complete(job, next(s.token for s in studio.job(job).stages.values()))
    eventually(lambda: studio.job(job).webhooks[0].tries > 0)
    assert studio.job(job).webhooks[1].tries == 0
    receiver.behave = answers(200)
    eventually(lambda: [w.status for w in studio.job(job).webhooks] == ["delivered"] * 2)
    assert list(dict.fromkeys(json.loads(r.body)["data"]["attempt"] for r in receiver.got)) == [1, 2]
    check_job(studio.client, KEYS, job)


def test_a_receiver_that_hangs_holds_up_nobody_else_and_is_not_overrun(studio: Studio, receive: Receive) -> None:
    slow, good = receive(hangs), receive()
    host = studio.host(slow, good, webhook_timeout_seconds=60.0)
    stuck = [studio.ended(slow.url) for _ in range(webhooks.AT_A_DESTINATION + 3)]
    eventually(lambda: slow.connected == webhooks.AT_A_DESTINATION)
    assert studio.settled(studio.ended(good.url)).status == "delivered"
    assert {studio.webhook(job).tries for job in stuck} == {0}
    eventually(lambda: host._deliverer.backlog == len(stuck))
    assert slow.connected == webhooks.AT_A_DESTINATION


def test_what_does_not_fit_into_the_line_is_put_off_and_made_later(
    studio: Studio, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITING_IN_A_LANE", 1)
    monkeypatch.setattr(rules, "POSTPONED", 500)  # ms, not minutes
    go_on = threading.Event()
    slow = receive(waits(go_on, answers(200)))
    host = studio.host(slow, webhook_timeout_seconds=60.0)
    for _ in range(webhooks.AT_A_DESTINATION + 1):
        studio.ended(slow.url)
    eventually(lambda: host._deliverer.backlog == webhooks.AT_A_DESTINATION + 1)
    job = studio.ended(slow.url)
    timer = f"{job}|webhook:{studio.webhook(job).seq}"
    eventually(lambda: studio.client.zscore(KEYS.timers, timer))
    assert studio.webhook(job).tries == 0
    eventually(lambda: studio.client.hlen(KEYS.outbox) == webhooks.AT_A_DESTINATION + 1)
    go_on.set()
    assert studio.settled(job).status == "delivered"


def test_what_a_host_that_stops_has_not_done_the_next_one_does(studio: Studio, receive: Receive) -> None:
    receiver = receive(hangs)
    studio.host(receiver, webhook_timeout_seconds=60.0)
    jobs = [studio.ended(receiver.url) for _ in range(webhooks.AT_A_DESTINATION + 2)]
    eventually(lambda: len(receiver.got) >= webhooks.AT_A_DESTINATION)
    studio.hosts.pop().stop()
    receiver.behave = answers(200)
    studio.host(receiver)
    assert {studio.settled(job).status for job in jobs} == {"delivered"}
    assert {request.id for request in receiver.got} == {f"{job}-{studio.webhook(job).seq}" for job in jobs}


def test_a_delivery_that_was_overtaken_is_not_sent(studio: Studio, receive: Receive) -> None:
    go_on = threading.Event()
    slow = receive(waits(go_on, answers(500)))
    host = studio.host(slow, webhook_timeout_seconds=60.0)
    ahead = [studio.ended(slow.url) for _ in range(webhooks.AT_A_DESTINATION)]
    eventually(lambda: len(slow.got) >= len(ahead))
    job = studio.ended(slow.url)
    eventually(lambda: host._deliverer.backlog == len(ahead) + 1)
    assert studio.jobs.ask(job, m.Forget()).ok
    go_on.set()
    for stuck in ahead:
        studio.failed(stuck)
    eventually(lambda: studio.client.hlen(KEYS.outbox) == 0)
    assert slow.of(job) == []
