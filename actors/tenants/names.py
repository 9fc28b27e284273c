"""The names of what Redis keeps of tenants and keys. What changes together for a tenant shares its hash slot."""

from __future__ import annotations

import re

TENANT = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?\Z")
DEFAULT_TENANT = "default"  # whose everything is while no keys are needed

API_KEYS = "cs:keys"  # hash: id -> whose key it is, what it may do, and its digest
KEYS_VERSION = "cs:keys:version"  # string: rises with every change of the keys
OWN_LIMITS = "cs:limits"  # hash: tenant -> the limits that were set for it


class QuotaKeys:
    """What a tenant has stored."""

    def __init__(self, tenant: str) -> None:
        slot = f"cs:{{t:{tenant}}}:quota"
        self.total = f"{slot}:total"  # string: bytes
        self.held = f"{slot}:held"  # hash: holder -> bytes on their way
        self.until = f"{slot}:until"  # zset: holder -> when it is let go (ms, the server's clock)


class ReuseKeys:
    """What stages of a tenant's jobs have made."""

    def __init__(self, tenant: str) -> None:
        slot = f"cs:{{t:{tenant}}}:reuse"
        self.made = f"{slot}:made"  # hash: digest of what it was made from -> where it was made
        self.order = f"{slot}:order"  # zset: the same digests, by when (s)


def ticket(digest: str) -> str:
    """String with expiry: the id of the key that the one-time ticket with this digest stands for."""
    return f"cs:ticket:{digest}"


def begun_upload(tenant: str, key: str) -> str:
    """String with expiry: the upload that a tenant has begun under an idempotency key (JSON)."""
    return f"cs:begun-upload:{tenant}:{key}"


def bucket(who: str) -> str:
    """String with expiry, in the broker's Redis: when the requests of a tenant or an address are all paid for (us)."""
    return f"cs:rate:{who}"


def line(tenant: str) -> str:
    """zset with expiry, in the broker's Redis: who is about to open a job of the tenant -> when it is let go (us)."""
    return f"cs:line:{tenant}"


def quota_of_job(job: str) -> str:
    """Hash: whose job it is (`tenant`), and the bytes of its input and of each published folder."""
    return f"cs:quota:{job}"
