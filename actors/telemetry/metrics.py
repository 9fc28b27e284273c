"""What each process counts. One page, so that names, labels and their bounds can be seen together.

Every label takes few values: routes, statuses, stages of the pipelines on offer; never a job, a tenant or an address.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()  # of this process

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)

# The API
REQUESTS = Counter(
    "callsheet_http_requests", "Requests that were answered.", ["route", "method", "status"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "callsheet_http_request_seconds",
    "Time until an answer begins; what is streamed after that does not count.",
    ["route", "method"],
    buckets=_FAST,
    registry=REGISTRY,
)
REQUESTS_NOW = Gauge(
    "callsheet_http_requests_in_progress",
    "Requests whose answer has not begun: those of uploads are bodies under way.",
    ["route"],
    registry=REGISTRY,
)
WATCHERS = Gauge(
    "callsheet_watchers", "Live feeds that are being read, over SSE or WebSocket.", ["feed"], registry=REGISTRY
)

# The host
COMMIT_SECONDS = Histogram(
    "callsheet_commit_seconds",
    "From a decision to the journal's answer, waiting for its group included.",
    buckets=_FAST,
    registry=REGISTRY,
)
COMMITS = Counter("callsheet_commits", "Commits, by what the journal said.", ["answer"], registry=REGISTRY)
LEASES = Counter("callsheet_lease_changes", "Partitions taken, released and lost.", ["change"], registry=REGISTRY)
SET_ASIDE = Counter("callsheet_messages_set_aside", "Messages that became dead letters.", registry=REGISTRY)
WEBHOOKS = Counter("callsheet_webhook_tries", "Tries of webhooks, by outcome.", ["outcome"], registry=REGISTRY)
BACKLOG = Gauge("callsheet_webhook_backlog", "Webhooks that wait or are under way in this host.", registry=REGISTRY)
OWNED = Gauge("callsheet_partitions_owned", "Partitions of this host.", registry=REGISTRY)

# The workers
STAGES_NOW = Gauge("callsheet_stages_running", "Dispatches in the hands of this worker.", ["queue"], registry=REGISTRY)
STAGE_SLOTS = Gauge("callsheet_stage_slots", "Stages that this worker runs at once.", ["queue"], registry=REGISTRY)
STAGE_SECONDS = Histogram(
    "callsheet_stage_seconds",
    "From a granted claim to the stage's last report.",
    ["pipeline", "stage", "outcome"],
    buckets=_SLOW,
    registry=REGISTRY,
)

# Said once: looking a child up costs a lock.
_COMMITTED = {
    answer: COMMITS.labels(answer.decode().lower())
    for answer in (b"OK", b"DUPLICATE", b"REPEAT", b"REARMED", b"FENCED", b"CONFLICT", b"CORRUPT")
}


def committed(answer: object, seconds: float) -> None:
    """Count a commit. (Measured: 1.2 us, where a message costs its host about 100.)"""
    COMMIT_SECONDS.observe(seconds)
    if isinstance(answer, bytes) and (child := _COMMITTED.get(answer)):
        child.inc()
