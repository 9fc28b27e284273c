"""What can go wrong for a client, in one table: each code with its HTTP status and title (RFC 9457).

Every refusal ends here, whoever raised it: our own `Problem`, an error of `actors`, or one of Falcon's.
"""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi
import msgspec
import structlog

from callsheet.actors.errors import CallsheetError

log = structlog.get_logger("api")
RETRY_AFTER_SECONDS = 2

# code -> (status, title). The code is permanent; so is its status.
PROBLEMS: dict[str, tuple[int, str]] = {
    # The request as such
    "bad_request": (400, "The request is malformed"),
    "invalid_json": (400, "The body is not acceptable JSON"),
    "invalid_multipart": (400, "The form is malformed"),
    "invalid_parameter": (400, "A query parameter or header is malformed"),
    "invalid_cursor": (400, "The cursor is not one of ours"),
    "unauthorized": (401, "A key is needed"),
    "forbidden": (403, "The key does not allow this"),
    "forbidden_origin": (403, "Pages of other sites may not do this"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "This resource does not take that method"),
    "body_timeout": (408, "The body came too slowly"),
    "body_too_large": (413, "The body is larger than allowed"),
    "offset_mismatch": (409, "The upload goes on elsewhere"),
    "upload_incomplete": (409, "The upload is not all there"),
    "unsupported_version": (412, "This version of the upload protocol is not spoken here"),
    "upload_gone": (410, "The upload is gone"),
    "upload_locked": (423, "Somebody else is writing to the upload"),
    "checksum_mismatch": (460, "The bytes are not those that were meant"),
    "unknown_host": (421, "This service does not go by that name"),
    "unsupported_media_type": (415, "The body has a type that is not taken here"),
    "range_not_satisfiable": (416, "The file does not have that range"),
    "upgrade_required": (426, "This resource speaks WebSocket only"),
    "rate_limited": (429, "These are too many requests"),
    # A submission
    "upload_too_large": (413, "The file is larger than allowed"),
    "quota_exceeded": (413, "There is no room left in the quota"),
    "too_many_jobs": (429, "There are too many jobs"),
    "missing_part": (422, "The submission lacks a part"),
    "unexpected_part": (400, "The submission has a part that is not taken"),
    "duplicate_part": (400, "The form has a part twice"),
    "empty_file": (422, "The file is empty"),
    "unsupported_container": (415, "The pipeline takes no such file"),
    "unknown_upload": (422, "There is no such upload"),
    "unknown_pipeline": (422, "There is no such pipeline"),
    "invalid_params": (422, "The parameters do not fit the pipeline"),
    "invalid_field": (422, "A field of the body is not acceptable"),
    "source_unsupported": (422, "This pipeline takes no address"),
    "url_forbidden": (422, "The service does not connect to that address"),
    "idempotency_key_reused": (422, "The idempotency key was used for another submission"),
    "storage_full": (507, "There is no room for files"),
    # A job
    "job_ended": (409, "The job has ended"),
    "job_active": (409, "The job is still active"),
    "job_expired": (410, "The job is gone"),
    "cursor_lost": (410, "The events do not continue from this cursor"),
    "nothing_to_deliver": (409, "The job has no such webhook"),
    "webhook_under_way": (409, "A webhook of the job is being delivered"),
    "redelivered_too_often": (409, "The webhook was asked for too often"),
    "precondition_failed": (412, "The job has changed"),
    "unknown_stage": (422, "The job has no such stage"),
    # A transcription asked for as of the OpenAI API
    "input_refused": (400, "The recording, or what was asked of it, cannot be used"),
    "unknown_model": (404, "There is no such model"),
    "job_cancelled": (409, "The job was cancelled"),
    "job_failed": (500, "The job has failed"),
    "job_takes_long": (504, "The job takes longer than a request waits"),
    # The service
    "message_rejected": (500, "The job could not apply this"),
    "internal": (500, "Something went wrong on our side"),
    "unavailable": (503, "The service cannot do this right now"),
    "mailbox_full": (503, "Too much is waiting already"),
    "corrupt_record": (503, "What is stored of this job cannot be read"),
    "store_unavailable": (503, "The files cannot be reached right now"),
    "store_misconfigured": (503, "The files cannot be reached: the store is not set up"),
    "not_ready": (503, "The service is not ready"),
}

# What the owner or the client calls it -> what HTTP calls it, where the two differ. An unknown job is like any
# unknown path, so that nobody learns which ids exist.
_ALIASES = {"job_unknown": "not_found", "submission_conflict": "idempotency_key_reused", "no_answer": "unavailable"}
_OF_FALCON = {
    403: "forbidden_origin",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}


class ClientGoneError(Exception):
    """The connection ended before the body did. Nobody is there to read an answer."""


class Problem(Exception):  # noqa: N818  it is the answer, not only an error
    """An answer that refuses. `code` must be in the table; `more` are members of the problem's JSON."""

    def __init__(self, code: str, detail: str = "", headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = _ALIASES.get(code, code)
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.code][0]

    def body(self, request_id: str = "") -> bytes:
        """The problem as JSON. What we cannot explain to a client (500) says nothing about us, but how we can be asked
        about it. Only what is our fault tells the request's id: a refusal is the same bytes each time, so that nobody
        can tell a foreign id from an unknown one, nor one wrong key from another."""
        status, title = PROBLEMS[self.code]
        members: dict[str, Any] = {"type": f"urn:callsheet:problem:{self.code}", "title": title, "status": status}
        if self.detail and status != 500:
            members["detail"] = self.detail
        named = {"request_id": request_id} if request_id and status >= 500 else {}
        return msgspec.json.encode({**members, "code": self.code, **self.more, **named})


def problem_of(error: Exception) -> Problem:
    """The problem behind any exception; `internal` for one that nobody foresaw."""
    match error:
        case Problem():
            return error
        case CallsheetError(code=code):
            # The text of an error of ours may name hosts and ports of the inside; the table's title says enough.
            return Problem(code if _ALIASES.get(code, code) in PROBLEMS else "internal")
        case falcon.HTTPError(status_code=status):
            code = _OF_FALCON.get(status, "bad_request" if status < 500 else "internal")
            return Problem(code, headers=_headers(error))
        case _:
            return Problem("internal")


def _headers(error: falcon.HTTPError) -> dict[str, str]:
    """What RFC 9110 wants beside some statuses: `Allow` and `Content-Range`."""
    given = dict(error.headers or {})
    return {name: value for name, value in given.items() if name.lower() in ("allow", "content-range")}


async def answer_problem(
    req: falcon.asgi.Request, resp: Any, error: Exception, _params: dict[str, Any], ws: Any = None
) -> None:
    """The one error handler of the application: of requests (with `resp`) and of WebSockets (with `ws`)."""
    problem = problem_of(error)
    if problem.status == 500:
        log.error("request failed", method=req.method, path=req.path, exc_info=error)
    elif problem.status > 500:
        log.warning("request refused", code=problem.code, path=req.path, why=str(error))
    if ws is not None:
        # Before the handshake this is an HTTP 403, whatever the code: the server can say no more there.
        await ws.close(1011 if problem.status >= 500 else 1008)
    if resp is not None:
        put_problem(resp, problem)


async def drop_answer(
    _req: falcon.asgi.Request, resp: falcon.asgi.Response, _error: Exception, _params: dict[str, Any]
) -> None:
    """The client has gone: nothing to say, nothing to log."""
    resp.status = 400


def put_problem(resp: falcon.asgi.Response, problem: Problem) -> None:
    """Make the response this problem."""
    resp.status = problem.status
    resp.content_type = "application/problem+json"
    resp.data, resp.stream = problem.body(getattr(resp.context, "request_id", "")), None
    resp.set_header("Cache-Control", "no-store")
    if problem.status == 503 and problem.code != "corrupt_record":
        resp.set_header("Retry-After", str(RETRY_AFTER_SECONDS))
    for name, value in problem.headers.items():
        resp.set_header(name, value)
