"""The names of everything in Redis. All keys of a job share its partition's hash slot `{p}`."""

from __future__ import annotations

import re
import secrets

JOB_ID = re.compile(r"[0-9a-f]{32}\Z")

PARTITIONS = "cs:partitions"  # string: their number, fixed at the first start
BORN = "cs:born"  # string: when this journal began (s, the server's clock)
HOSTS = "cs:hosts"  # zset: host -> when it was last seen (ms, the server's clock)
INTERRUPTS = "cs:interrupts"  # channel: tokens to stop, "job stage token"
BROKER_GENERATION = "cs:generation"  # in the broker's Redis: which life of it this is


def new_job_id() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


def partition_of(job: str, partitions: int) -> int:
    """The partition that owns a job: fixed by the first 32 bits of its id. ValueError for what is no job id."""
    if not JOB_ID.match(job):
        raise ValueError(f"{job[:40]!r} is no job id")
    return int(job[:8], 16) % partitions


class PartitionKeys:
    """The keys of one partition."""

    def __init__(self, number: int) -> None:
        self.slot = slot = f"cs:{{{number}}}"
        self.mailbox = f"{slot}:mailbox"  # stream: job, mid, body, reply
        self.lease = f"{slot}:lease"  # string with expiry: the host that owns the partition
        self.epoch = f"{slot}:epoch"  # string: rises with each owner; fences the old one off
        self.timers = f"{slot}:timers"  # zset: "job|timer" -> due (ms, the server's clock)
        self.tokens = f"{slot}:tokens"  # hash: "job|timer" -> token it was set with
        self.outbox = f"{slot}:outbox"  # hash: effect id -> effect, until performed
        self.dispatched = f"{slot}:dispatched"  # hash: "job|token" -> generation and effect, until claimed
        self.dead = f"{slot}:dead"  # stream: dead letters, the newest 1,000

    def log(self, job: str) -> str:
        """Stream of a job's events; ids are `seq-0`."""
        return f"{self.slot}:log:{job}"

    def snapshot(self, job: str) -> str:
        """Hash of a job's snapshot, a field of JSON for each of its members."""
        return f"{self.slot}:job:{job}"

    def receipt(self, job: str) -> str:
        """The accepted submission, until its owner has written the job, refused it or set it aside."""
        return f"{self.slot}:receipt:{job}"

    def seen(self, job: str, mid: str) -> str:
        """The outcome of a command that was applied, for a while: what a redelivery is answered with."""
        return f"{self.slot}:seen:{job}:{mid}"

    def callback_secret(self, job: str) -> str:
        """The secret that a job's own webhooks are signed with, if it came with one: from its submission on for as
        long as the job."""
        return f"{self.slot}:callback:{job}"

    def index(self, tenant: str) -> str:
        """zset of a tenant's jobs in this partition, by when they were accepted (ms, the server's clock)."""
        return f"{self.slot}:jobs:{tenant}"

    def open(self, tenant: str) -> str:
        """zset of a tenant's jobs in this partition that have not ended, by when they were accepted, or last retried
        (us, the server's clock)."""
        return f"{self.slot}:open:{tenant}"

    def changes(self, tenant: str) -> str:
        """Stream of where a tenant's events are: `j` job, `s` seq of the last event, `n` how many; and the channel that
        tells of a new entry. It is kept only while somebody watches the tenant."""
        return f"{self.slot}:changes:{tenant}"


def feed_channel(job: str) -> str:
    """Where watchers of a job are told to look again."""
    return f"cs:feed:{job}"


def webhook_secret(tenant: str) -> str:
    """The secret that signs a tenant's webhooks."""
    return f"cs:webhook:{tenant}"


def webhook_secret_before(tenant: str) -> str:
    """The one before it, which signs as well until it expires."""
    return f"cs:webhook-before:{tenant}"
