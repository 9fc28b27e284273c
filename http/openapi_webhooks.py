"""The operations on webhooks."""

from __future__ import annotations

from callsheet.http.openapi_model import BODY, CHANGE, IF_MATCH, JOB, JSON, Answer, Operation, Table
from callsheet.http.webhooks import RedeliverBody, WebhookPage

_TAG = "webhooks"

OPERATIONS: Table = {
    ("GET", "/v1/jobs/{job_id}/webhooks"): Operation(
        id="listWebhooks",
        tag=_TAG,
        summary="List a job's webhooks",
        description="Each end of the job that its `callback_url` was told of, or is still to be told of.",
        answers={200: Answer("All that are remembered.", {JSON: WebhookPage}, ("ETag",))},
        problems=JOB,
        example="{url}/v1/jobs/$JOB/webhooks",
    ),
    ("POST", "/v1/jobs/{job_id}/webhooks/redeliver"): Operation(
        id="redeliverWebhook",
        tag=_TAG,
        summary="Send a webhook again",
        description="At once, under the same `webhook-id` and with the same body; as often as a new one, if it fails. "
        "One that waits for its next try is tried now.",
        scope="write",
        takes=(IF_MATCH,),
        body={JSON: RedeliverBody},
        body_required=False,
        answers={202: Answer("It is being sent.", {JSON: WebhookPage}, ("ETag",))},
        problems=(
            *(*JOB, *CHANGE, *BODY, "invalid_parameter", "precondition_failed"),
            *("nothing_to_deliver", "webhook_under_way", "redelivered_too_often"),
        ),
        example="-X POST {url}/v1/jobs/$JOB/webhooks/redeliver",
    ),
}
