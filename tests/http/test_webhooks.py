"""Webhooks from a client's side: asking for them, seeing how they fare, having one sent again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from websockets.sync.client import connect

from callsheet.actors.webhooks import signing as webhook_secrets
from tests.http.contract import validator
from tests.http.service import Api, Role, Stages
from tests.http.watching import SSE, history, to_the_end, watch
from tests.receiver import Behaviour, Receiver, Request, answers
from tests.waiting import eventually

Behave = Callable[[Behaviour], None]
EXPOSED = {"id", "seq", "event", "status", "tries", "next_try_at", "code", "status_code", "settled_at"}


@pytest.fixture
def behave(receiver: Receiver) -> Iterator[Behave]:
    """Have the receiver behave like this; the next test finds it well again."""

    def set_(behaviour: Behaviour) -> None:
        receiver.behave = behaviour

    yield set_
    receiver.behave = answers(204)


def submit(client: httpx.Client, url: str, headers: dict[str, str] | None = None, /, **fields: str) -> httpx.Response:
    """Submit a job that is to tell this address of its ends."""
    data = {"pipeline": "sample", "callback_url": url, **fields}
    return client.post("/v1/jobs", data=data, files={"file": ("a.wav", b"sound", "audio/wav")}, headers=headers)


def ended(client: httpx.Client, stages: Stages, url: str, **fields: str) -> str:
    """A job that has just completed and is to tell this address."""
    answer = submit(client, url, **fields)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    stages.complete(job)
    return job


def webhooks(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    return client.get(f"/v1/jobs/{job}/webhooks").json()["webhooks"]  # type: ignore[no-any-return]


def once(client: httpx.Client, job: str, status: str) -> dict[str, Any]:
    """The job's only webhook, when it has come to that."""
    found = eventually(lambda: [w for w in webhooks(client, job) if w["status"] == status])
    (webhook,) = found
    return webhook


def received(receiver: Receiver, job: str) -> list[Request]:
    return [request for request in receiver.got if request.id.startswith(job)]


def test_a_client_sees_how_its_webhook_fares_and_has_it_sent_again(
    client: httpx.Client, stages: Stages, receiver: Receiver
) -> None:
    job = ended(client, stages, receiver.url)
    webhook = once(client, job, "delivered")
    assert set(webhook) == EXPOSED
    assert (webhook["status_code"], webhook["code"]) == (204, None)
    assert webhook["tries"] >= 1
    answer = client.post(f"/v1/jobs/{job}/webhooks/redeliver", json={"seq": webhook["seq"]})
    assert (answer.status_code, set(answer.json()["webhooks"][0])) == (202, EXPOSED)
    eventually(lambda: once(client, job, "delivered")["tries"] > webhook["tries"])
    first, *more = received(receiver, job)
    assert more
    assert {(request.id, request.body) for request in (first, *more)} == {(webhook["id"], first.body)}
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "completed"


def test_a_redelivery_without_a_body_is_of_the_latest_and_hurries_one_that_waits(
    client: httpx.Client, stages: Stages, receiver: Receiver, behave: Behave
) -> None:
    behave(answers(500))
    job = ended(client, stages, receiver.url)
    eventually(lambda: webhooks(client, job)[0]["tries"] >= 2)
    waiting = once(client, job, "pending")
    assert (waiting["code"], waiting["status_code"]) == ("refused", 500)
    assert waiting["next_try_at"] > client.get(f"/v1/jobs/{job}").json()["updated_at"], "in an hour"
    behave(answers(200))
    assert client.post(f"/v1/jobs/{job}/webhooks/redeliver").status_code == 202
    assert once(client, job, "delivered")["tries"] > waiting["tries"]


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ({}, {}, "nothing_to_deliver"),
        ({"seq": 1}, {}, "nothing_to_deliver"),
        ({"seq": 0}, {}, "invalid_field"),
        ({"seq": "1"}, {}, "invalid_field"),
        ({"id": 1}, {}, "invalid_field"),
        ({}, {"If-Match": '"1"'}, "precondition_failed"),
    ],
)
def test_what_cannot_be_sent_again_is_refused(
    client: httpx.Client, job: str, body: dict[str, Any], headers: dict[str, str], code: str
) -> None:
    answer = client.post(f"/v1/jobs/{job}/webhooks/redeliver", json=body, headers=headers)
    assert answer.json()["code"] == code


def test_a_watcher_that_comes_back_gets_what_became_of_the_webhook_and_then_the_end(
    client: httpx.Client, stages: Stages, receiver: Receiver, behave: Behave
) -> None:
    behave(answers(410))
    job = ended(client, stages, receiver.url)
    once(client, job, "given_up")
    events = history(client, job)
    (end,) = [event["seq"] for event in events if event["type"] == "JobCompleted"]
    assert [e["type"] for e in events if e["seq"] > end] == ["WebhookFailed", "WebhookGivenUp"]
    assert [int(e.id) for e in watch(client, job, Last_Event_ID=str(end))] == [end + 1, end + 2]
    assert [int(e.id) for e in watch(client, job)] == list(range(1, end + 3))
    again = client.get(f"/v1/jobs/{job}/events?after={end + 2}", headers=SSE)
    assert (again.status_code, again.content) == (204, b"")


def test_a_socket_too_is_closed_behind_the_webhooks_events(
    api: Api, client: httpx.Client, stages: Stages, receiver: Receiver
) -> None:
    job = ended(client, stages, receiver.url)
    once(client, job, "delivered")
    with connect(f"ws://127.0.0.1:{api.port}/v1/jobs/{job}/ws") as link:
        frames, code = to_the_end(link)
    assert code == 1000
    assert [frame["type"] for frame in frames][-2:] == ["JobCompleted", "WebhookDelivered"]


def test_a_webhooks_event_during_the_next_attempt_ends_no_feed(
    client: httpx.Client, stages: Stages, receiver: Receiver, behave: Behave
) -> None:
    behave(answers(500))
    job = ended(client, stages, receiver.url)
    eventually(lambda: webhooks(client, job)[0]["tries"] >= 2)
    client.post(f"/v1/jobs/{job}/retry", json={"from_stage": "two"})
    behave(answers(200))
    after = client.get(f"/v1/jobs/{job}").json()["seq"]
    live = watch(client, job, after=after)
    client.post(f"/v1/jobs/{job}/webhooks/redeliver")
    assert [next(live).event, next(live).event] == ["WebhookRequested", "WebhookDelivered"]
    stages.succeed(job, "two", stages.start(job, "two"))
    assert [event.event for event in live][:3] == ["StageStarted", "StageSucceeded", "JobCompleted"]
    eventually(lambda: [w["status"] for w in webhooks(client, job)] == ["delivered"] * 2)


def test_a_forgotten_jobs_webhooks_are_gone_with_it(client: httpx.Client, stages: Stages, receiver: Receiver) -> None:
    job = ended(client, stages, receiver.url)
    once(client, job, "delivered")
    assert client.delete(f"/v1/jobs/{job}").status_code in (202, 204)
    eventually(lambda: client.get(f"/v1/jobs/{job}/webhooks").status_code == 410)
    assert client.post(f"/v1/jobs/{job}/webhooks/redeliver").status_code == 410


def test_the_tenants_secret_is_what_signs(
    addresses: dict[str, str], client: httpx.Client, stages: Stages, receiver: Receiver
) -> None:
    job = ended(client, stages, receiver.url)
    once(client, job, "delivered")
    with redis.Redis.from_url(addresses["redis_url"]) as journal:
        (secret,) = webhook_secrets.of_tenant(journal, "default")
    assert received(receiver, job)[0].verified(secret)["data"]["id"] == job


def test_a_secret_that_comes_with_the_job_signs_and_is_shown_nowhere(
    api: Api, host: Role, client: httpx.Client, stages: Stages, receiver: Receiver
) -> None:
    secret = webhook_secrets.new_secret()
    job = ended(client, stages, receiver.url, callback_secret=secret)
    once(client, job, "delivered")
    assert received(receiver, job)[0].verified(secret)
    shown = [client.get(f"/v1/jobs/{job}{path}").text for path in ("", "/events", "/webhooks")]
    assert secret not in "".join([*shown, api.said(), host.said()])


def test_the_secret_of_a_submission_that_was_refused_signs_nothing(
    client: httpx.Client, stages: Stages, receiver: Receiver
) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    upload = client.post("/v1/uploads", headers={**tus, "Upload-Length": "5"}).headers["location"]
    asked = {"pipeline": "sample", "upload": upload, "callback_url": receiver.url}
    first, second = webhook_secrets.new_secret(), webhook_secrets.new_secret()

    def submitted(secret: str) -> httpx.Response:
        headers = {"Idempotency-Key": "secrets"}
        return client.post("/v1/jobs", json={**asked, "callback_secret": secret}, headers=headers)

    assert submitted(first).json()["code"] == "upload_incomplete"
    body = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(upload, headers=body, content=b"sound").status_code == 204
    job: str = submitted(second).json()["id"]
    assert submitted(first).json()["code"] == "idempotency_key_reused"
    stages.complete(job)
    once(client, job, "delivered")
    assert received(receiver, job)[0].verified(second)


CALLBACKS = {
    "loopback": ({"callback_url": "http://127.0.0.1:1/"}, "url_forbidden"),
    "metadata": ({"callback_url": "http://169.254.169.254/latest"}, "url_forbidden"),
    "another scheme": ({"callback_url": "ftp://example.com/"}, "url_forbidden"),
    "a user in it": ({"callback_url": "https://user:pass@example.com/"}, "url_forbidden"),
    "no secret": ({"callback_url": "https://example.com/", "callback_secret": "secret"}, "invalid_field"),
    "a secret for nobody": ({"callback_url": "", "callback_secret": f"whsec_{'A' * 32}"}, "missing_part"),
}


@pytest.mark.parametrize(("fields", "code"), CALLBACKS.values(), ids=CALLBACKS)
def test_a_callback_that_cannot_be_is_refused_in_a_form_and_in_json(
    client: httpx.Client, fields: dict[str, str], code: str
) -> None:
    form = submit(client, fields["callback_url"], **fields)
    in_json = client.post("/v1/jobs", json={"pipeline": "sample", "source_url": "https://example.com/a.wav", **fields})
    assert [(a.status_code, a.json()["code"]) for a in (form, in_json)] == [(422, code)] * 2
    assert "whsec_" + "A" not in form.text + in_json.text


def test_another_callback_under_the_same_idempotency_key_is_another_submission(
    client: httpx.Client, receiver: Receiver
) -> None:
    key = {"Idempotency-Key": "one-callback"}
    first = submit(client, receiver.url, key)
    again = submit(client, receiver.url, key)
    other = submit(client, f"{receiver.url}?other", key)
    signed = submit(client, receiver.url, key, callback_secret=webhook_secrets.new_secret())
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert [other.json()["code"], signed.json()["code"]] == ["idempotency_key_reused"] * 2


def test_what_is_told_is_what_the_document_says(client: httpx.Client, stages: Stages, receiver: Receiver) -> None:
    done = ended(client, stages, receiver.url)
    failed = submit(client, receiver.url).json()["id"]
    stages.fail(failed, "one", stages.start(failed, "one"))
    cancelled = submit(client, receiver.url).json()["id"]
    client.post(f"/v1/jobs/{cancelled}/cancel")
    document = client.get("/openapi.json").json()
    for job, kind in ((done, "job.completed"), (failed, "job.failed"), (cancelled, "job.cancelled")):
        once(client, job, "delivered")
        told = json.loads(received(receiver, job)[0].body)
        content = document["webhooks"][kind]["post"]["requestBody"]["content"]["application/json"]
        validator(document, content["schema"]).validate(told)
        assert (told["type"], told["data"]["id"], told["data"]["error"] is None) == (kind, job, job != failed)
