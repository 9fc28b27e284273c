"""Settings that contradict each other: each check says in one line what is wrong, or nothing."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callsheet.config.settings import Settings

KEY_SECONDS = 24 * 3600  # that an idempotency key is known
MOST_OBJECT_BYTES = 5 << 30  # of one PUT, by the protocol of S3


def first_contradiction(settings: Settings) -> str | None:
    """What is wrong with these settings taken together, if anything."""
    return next((problem for check in CHECKS if (problem := check(settings))), None)


def _public_bind(s: Settings) -> str | None:
    if s.auth != "off" or is_loopback(s.bind):
        return None
    return (
        f"bind={s.bind} opens the service to the network and auth=off lets anybody in: "
        "take auth=keys, or bind=127.0.0.1"
    )


def _hasty_loss(s: Settings) -> str | None:
    if s.worker_lost_after_seconds >= 2 * s.heartbeat_seconds:
        return None
    return (
        f"worker_lost_after_seconds={s.worker_lost_after_seconds:g} must be at least twice "
        f"heartbeat_seconds={s.heartbeat_seconds:g}, or one late heartbeat loses a healthy worker"
    )


def _one_redis_for_two(s: Settings) -> str | None:
    if s.redis_url is None or s.redis_url != s.broker_url:
        return None
    return "broker_url equals redis_url: the work queues need a Redis (or at least a database number) of their own"


def _pool_wider_than_memory(s: Settings) -> str | None:
    if s.host_capacity >= s.host_pool_threads:
        return None
    return f"host_capacity={s.host_capacity} is below host_pool_threads={s.host_pool_threads}: threads would starve"


def _half_a_language_model(s: Settings) -> str | None:
    if bool(s.llm_url) == bool(s.llm_model):
        return None
    return "llm_url and llm_model go together: set both, or neither"


def _slow_reply(s: Settings) -> str | None:
    if s.reply_timeout <= 30:
        return None
    return f"reply_timeout={s.reply_timeout:g}: a request that waits longer than 30 s is cut off by most clients"


def _no_room_for_one(s: Settings) -> str | None:
    if s.quota_bytes >= s.max_upload_bytes:
        return None
    return f"quota_bytes={s.quota_bytes} is below max_upload_bytes={s.max_upload_bytes}: such an upload never fits"


def _more_at_work_than_open(s: Settings) -> str | None:
    if not s.max_open_jobs or s.max_active_jobs <= s.max_open_jobs:
        return None
    return f"max_active_jobs={s.max_active_jobs} is above max_open_jobs={s.max_open_jobs}: so many are never accepted"


def _forgotten_before_its_key(s: Settings) -> str | None:
    if s.tombstone_seconds >= KEY_SECONDS:
        return None
    return (
        f"tombstone_seconds={s.tombstone_seconds:g} is below a day, for which an idempotency key is known: "
        "who repeats a submission would get the forgotten job once more, under the same id"
    )


def _bucket_settings_without_a_bucket(s: Settings) -> str | None:
    given = ("store_endpoint", "store_region", "store_access_key", "store_secret_key", "store_presigned_seconds")
    idle = next((name for name in given if getattr(s, name)), None)
    if s.store_url is not None or idle is None:
        return None
    return f"{idle} is set, but store_url is not: files would go into the data folder"


def _half_a_key(s: Settings) -> str | None:
    if (s.store_access_key is None) == (s.store_secret_key is None):
        return None
    return "store_access_key and store_secret_key belong together: set both, or none"


def _uploads_larger_than_an_object(s: Settings) -> str | None:
    if s.store_url is None or s.max_upload_bytes <= MOST_OBJECT_BYTES:
        return None
    return f"max_upload_bytes={s.max_upload_bytes} is above the 5 GiB that an object of store_url may have"


def _no_pipeline(s: Settings) -> str | None:
    return None if s.pipelines else "pipelines is empty: there would be nothing to run"


CHECKS = (
    _public_bind,
    _hasty_loss,
    _one_redis_for_two,
    _pool_wider_than_memory,
    _slow_reply,
    _half_a_language_model,
    _no_room_for_one,
    _more_at_work_than_open,
    _forgotten_before_its_key,
    _bucket_settings_without_a_bucket,
    _half_a_key,
    _uploads_larger_than_an_object,
    _no_pipeline,
)


def is_loopback(bind: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False
