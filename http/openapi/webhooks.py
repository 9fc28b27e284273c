"""The operations on webhooks."""

from __future__ import annotations

from callsheet.http.openapi.model import (
    BODY,
    CHANGE,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    JOB,
    JSON,
    Answer,
    Operation,
    Parameter,
    Table,
)
from callsheet.http.webhooks import RedeliverBody, WebhookPage

_TAG = "webhooks"
SIGNED = "Sent to the job's `callback_url`, signed as Standard Webhooks 1.0.0 has it; at least once, and in order."
TOLD = {"job.completed": "A job is done", "job.failed": "A job has failed", "job.cancelled": "A job is cancelled"}
SENT = tuple(
    Parameter(name, "header", kind, text, required=True)
    for name, kind, text in (
        ("webhook-id", str, "The same at each try: what you have seen already you need not look at again."),
        ("webhook-timestamp", int, "Of this try, in seconds since 1970."),
        ("webhook-signature", str, "`v1,` and the signature in base64; one for each secret, with a space between."),
    )
)

OPERATIONS: Table = {
    ("GET", "/v1/jobs/{job_id}/webhooks"): Operation(
        id="listWebhooks",
        tag=_TAG,
        summary="List a job's webhooks",
        description="Each end of the job that its `callback_url` was told of, or is still to be told of.",
        takes=(IF_MATCH, IF_NONE_MATCH),
        answers={
            200: Answer("All that are remembered.", {JSON: WebhookPage}, ("ETag",)),
            304: Answer("Nothing has changed.", headers=("ETag",)),
        },
        problems=(*JOB, "invalid_parameter", "precondition_failed"),
        example="{url}/v1/jobs/$JOB/webhooks",
    ),
    ("POST", "/v1/jobs/{job_id}/webhooks/redeliver"): Operation(
        id="redeliverWebhook",
        tag=_TAG,
        summary="Send a webhook again",
        description="At once, under the same `webhook-id` and with the same body; as often as a new one, if it fails. "
        "One that waits for its next try is tried now.",
        scope="write",
        takes=(IF_MATCH, IDEMPOTENCY_KEY),
        body={JSON: RedeliverBody},
        body_required=False,
        answers={202: Answer("It is being sent.", {JSON: WebhookPage}, ("ETag",))},
        problems=(
            *(*JOB, *CHANGE, *BODY, "invalid_parameter", "precondition_failed", "idempotency_key_reused"),
            *("nothing_to_deliver", "webhook_under_way", "redelivered_too_often"),
        ),
        example="-X POST {url}/v1/jobs/$JOB/webhooks/redeliver",
    ),
}
