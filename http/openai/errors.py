"""Problems in the shape that clients of the OpenAI API read: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from typing import Any

import falcon.asgi
import msgspec

from callsheet.http.problems import PROBLEMS, Problem, answer_problem, problem_of, put_problem
from callsheet.jobs.job import Job

PREFIX = "/v1/audio/"
_POINTER = re.compile(r": /(\w+)")
_FIELDS = {"hint": "prompt"}  # what the pipeline calls otherwise
_NO_AUDIO = "unsupported_container"
_MODEL_CODES = {"model_unavailable": "model_not_found"}
# What a stage ends with by a fault of ours; everything else that trying again cannot help is about the input.
_OURS = frozenset({"stage_error", "bad_stage_output", "stage_deadline", "worker_error", "fan_out_too_large"})


def error_members(problem: Problem) -> dict[str, Any]:
    """The problem as the OpenAI API would tell it."""
    title = PROBLEMS[problem.code][1]
    pointer = _POINTER.search(problem.detail) if problem.code == "invalid_params" else None
    param = problem.more.get("param") or (_FIELDS.get(pointer[1], pointer[1]) if pointer else None)
    param = "file" if problem.code == _NO_AUDIO else param
    told = problem.detail if problem.status != 500 or problem.code == "job_failed" else ""
    return {
        "message": f"{title}: {told}" if told else title,
        "type": _type(problem.status),
        "param": param,
        "code": problem.more.get("reason", problem.code),
    }


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


async def answer_error(
    req: falcon.asgi.Request, resp: Any, error: Exception, params: dict[str, Any], ws: Any = None
) -> None:
    """The error handler of the application, which tells those of these routes in this shape."""
    problem = problem_of(error)
    if problem.code == "job_failed":
        put_problem(resp, problem)  # no fault of this process: it was logged where it happened
    else:
        await answer_problem(req, resp, error, params, ws)
    if resp is not None and req.path.startswith(PREFIX):
        refused = problem.status == 422 or problem.code == _NO_AUDIO
        resp.status = 400 if refused else problem.status  # the OpenAI API knows no other for what it does not take
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"error": error_members(problem)})


def failure(job: Job) -> Problem:
    """Why there is no transcript of a job that has ended. Trying the same again does not help, so clients are told not
    to: the job has been tried as often as makes sense."""
    headers = {"x-should-retry": "false"}
    if job.error is None:
        return Problem("job_cancelled", "somebody has cancelled it", headers)
    code, message = job.error.code, job.error.message
    if code in _MODEL_CODES:
        return Problem("unknown_model", message, headers, reason=_MODEL_CODES[code], param="model")
    if code == "language_unsupported":
        return Problem("input_refused", message, headers, reason=code, param="language")
    if job.error.retryable or code in _OURS:
        return Problem("job_failed", message, headers, reason=code)
    return Problem("input_refused", message, headers, reason=code, param="file")
