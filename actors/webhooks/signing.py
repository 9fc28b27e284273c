"""The secrets that webhooks are signed with, and the signature (Standard Webhooks 1.0.0, symmetric, `v1`).

They lie in the journal's Redis, beside the journals and in none of them: no event, no snapshot and no log holds one.
A tenant's secret is made when it is first needed; for a while after it was replaced, the old one signs as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

from callsheet.actors.keys import PartitionKeys, webhook_secret, webhook_secret_before

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64


class WebhookSecretError(ValueError):
    """This is no secret that webhooks can be signed with."""


def new_secret() -> str:
    """256 random bits, as Standard Webhooks writes a secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises WebhookSecretError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise WebhookSecretError(f"a secret is {PREFIX} and {MIN_BYTES} to {MAX_BYTES} bytes in base64")
    return key


def signatures(message_id: str, timestamp: int, body: bytes, by: Sequence[str]) -> str:
    """The value of `webhook-signature`: one signature for each secret."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    made = (hmac.digest(key_of(secret), signed, hashlib.sha256) for secret in by)
    return " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)


def of_tenant(client: Any, tenant: str) -> list[str]:
    """The tenant's secrets, the current one first. Raises RedisError."""
    client.set(webhook_secret(tenant), new_secret(), nx=True)
    found = client.mget(webhook_secret(tenant), webhook_secret_before(tenant))
    return [secret.decode() for secret in found if secret]


def rotate(client: Any, tenant: str, overlap_seconds: int) -> list[str]:
    """Give the tenant a new secret; the old one signs beside it for so long. The secrets. Raises RedisError."""

    def replace(pipe: Any) -> None:
        current = pipe.get(webhook_secret(tenant))
        pipe.multi()
        pipe.set(webhook_secret(tenant), new_secret())
        if current is not None and overlap_seconds > 0:
            pipe.set(webhook_secret_before(tenant), current, ex=overlap_seconds)
        else:
            pipe.delete(webhook_secret_before(tenant))

    client.transaction(replace, webhook_secret(tenant))
    return of_tenant(client, tenant)


def of_job(client: Any, keys: PartitionKeys, job: str) -> list[str]:
    """The secret that came with the job's submission; [] when it is gone. Raises RedisError."""
    found = client.get(keys.callback_secret(job))
    return [found.decode()] if found else []
