"""Questions to a language model behind any endpoint that speaks OpenAI's `/chat/completions`.

An answer that is not JSON of the shape that was asked for is asked for once more. One that is, is kept in the job's
ledger, so that neither a retry nor a second delivery pays again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from callsheet.media.providers.base import ProviderError, ProviderSettings, check_configured, current
from callsheet.media.providers.buy import name_of
from callsheet.media.providers.ledger import purchase
from callsheet.media.providers.web import Web, bad_answer, nothing_done

ASKED = 2  # times, where the answer is not what was asked for
MOST_CHARACTERS = 400_000  # of a question: four hours of quick speech
THOUGHT = "</think>"  # the end of what some models on one's own machine think aloud
T = TypeVar("T")


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: Annotated[tuple[_Choice, ...], msgspec.Meta(min_length=1)]


def ask(ledger: Path, folder: Path, step: str, *, task: str, material: str, shape: type[T]) -> T:
    """What the model answers to `task` about `material`, as `shape`. Works in `folder`. Raises ProviderError."""
    check_configured("llm", "A language model")
    settings = current()
    if settings.keyless:
        raise ProviderError("llm_needs_new_job", "A retry cannot turn to a language model: submit the file anew.")
    if len(material) > MOST_CHARACTERS:
        raise ProviderError("llm_question_too_long", "The transcript is too long for a question.", taken=False)
    name = name_of(step, settings.llm_url, settings.llm_model, task, material)
    with purchase(ledger, name) as record:
        made = folder / f"{step}.json"
        if record.kept:
            record.give(made)
            return msgspec.json.decode(made.read_bytes(), type=shape)
        answer = _asked(settings, task, material, shape)
        made.write_bytes(msgspec.json.encode(answer))
        record.keep(made)
        return answer


def _asked(settings: ProviderSettings, task: str, material: str, shape: type[T]) -> T:
    key = {"Authorization": f"Bearer {settings.llm_key}"} if settings.llm_key else {}
    web = Web("The language model", key, settings.call_seconds, free=nothing_done)
    messages = [{"role": "system", "content": task}, {"role": "user", "content": material}]
    body = {"model": settings.llm_model, "messages": messages, "temperature": 0}
    for last in range(ASKED - 1, -1, -1):
        raw = _answer(web, f"{settings.llm_url.rstrip('/')}/chat/completions", body)
        try:
            return _read(raw, shape)
        except ProviderError:
            if not last:
                raise
    raise AssertionError


def _answer(web: Web, url: str, body: dict[str, Any]) -> bytes:
    """The answer; from a model that takes no temperature but its own, without one."""
    try:
        return web.call("POST", url, json=body, once=True).body
    except ProviderError as error:
        if error.code != "provider_refused" or "temperature" not in error.message or "temperature" not in body:
            raise
    del body["temperature"]
    return web.call("POST", url, json=body, once=True).body


def _read(raw: bytes, shape: type[T]) -> T:
    """The JSON object in an answer, whatever is said around it. ProviderError: provider_bad_answer."""
    try:
        content = msgspec.json.decode(raw, type=_Completion).choices[0].message.content
        said = content.rpartition(THOUGHT)[2]
        return msgspec.json.decode(said[said.find("{") : said.rfind("}") + 1], type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise bad_answer(str(error)[:200]) from None
