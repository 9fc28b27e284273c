"""Which secrets sign a webhook, and where they lie."""

from __future__ import annotations

import msgspec
import pytest
from standardwebhooks.webhooks import WebhookVerificationError
from typer.testing import CliRunner

from callsheet.actors.keys import new_job_id
from callsheet.actors.webhooks import signing as webhook_secrets
from callsheet.cli import app
from callsheet.config.settings import SettingsError
from callsheet.jobs import messages as m
from tests.actors.kit import ONE, everything, submission
from tests.actors.studio import KEYS, Receive, Studio
from tests.waiting import eventually


def test_while_a_secret_is_replaced_both_verify_and_afterwards_only_the_new_one(
    studio: Studio, receive: Receive
) -> None:
    receiver = receive()
    studio.host(receiver)
    old = studio.secret()
    new, before = webhook_secrets.rotate(studio.client, "t1", 3600)
    assert (before, new != old) == (old, True)
    job = studio.ended(receiver.url)
    studio.settled(job)
    request = receiver.of(job)[0]
    assert request.verified(old) == request.verified(new)
    assert len(request.headers["webhook-signature"].split()) == 2
    (newest,) = webhook_secrets.rotate(studio.client, "t1", 0)
    job = studio.ended(receiver.url)
    studio.settled(job)
    request = receiver.of(job)[0]
    assert request.verified(newest)
    for gone in (old, new):
        with pytest.raises(WebhookVerificationError):
            request.verified(gone)


def test_a_jobs_own_secret_signs_lives_as_long_as_the_job_and_lies_nowhere_else(
    studio: Studio, receive: Receive
) -> None:
    receiver = receive()
    studio.host(receiver)
    own, job = webhook_secrets.new_secret(), new_job_id()
    studio.client.set(KEYS.callback_secret(job), own, ex=600)
    message = msgspec.structs.replace(submission(job, ONE), callback_url=receiver.url, callback_own_secret=True)
    assert studio.jobs.ask(job, message).ok
    eventually(lambda: studio.client.ttl(KEYS.callback_secret(job)) == -1, why="the secret would run out")
    studio.complete(job, 2)
    assert studio.settled(job).status == "delivered"
    assert receiver.got[0].verified(own)
    with pytest.raises(WebhookVerificationError):
        receiver.got[0].verified(studio.secret())
    elsewhere = {key: value for key, value in everything(studio.client).items() if b":callback:" not in key}
    assert own not in str(elsewhere)
    assert studio.jobs.ask(job, m.Forget()).ok
    eventually(lambda: not studio.client.exists(KEYS.callback_secret(job)))


def test_a_secret_of_the_jobs_own_that_is_gone_is_not_replaced_by_another(studio: Studio, receive: Receive) -> None:
    receiver = receive()
    studio.host(receiver)
    job = studio.ended(receiver.url, callback_own_secret=True)
    assert (studio.failed(job).code, receiver.got) == ("no_secret", [])


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!", "whsec_" + "A" * 100]
)
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(webhook_secrets.WebhookSecretError):
        webhook_secrets.key_of(secret)


def test_a_tenants_secret_is_made_once_and_is_its_own(studio: Studio) -> None:
    assert studio.secret() == studio.secret()
    assert studio.secret("t2") != studio.secret()
    assert len(webhook_secrets.key_of(studio.secret())) == 32


def test_the_command_shows_and_replaces_a_tenants_secret(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_REDIS_URL", studio.settings.journal)

    def run(*arguments: str) -> tuple[str, str]:
        answer = CliRunner().invoke(app, ["webhooks", "secret", *arguments])
        assert answer.exit_code == 0, answer.output
        return answer.stdout, answer.stderr

    old = studio.secret()
    assert run("show", "--tenant", "t1") == (f"{old}\n", "")
    new, told = run("rotate", "--tenant", "t1", "--overlap", "60")
    assert new == f"{studio.secret()}\n" != f"{old}\n"
    assert old in told
    assert run("rotate", "--tenant", "t1", "--overlap", "0")[1] == ""
    refused = CliRunner().invoke(app, ["webhooks", "secret", "show", "--tenant", "a:b"])
    assert isinstance(refused.exception, SettingsError)
