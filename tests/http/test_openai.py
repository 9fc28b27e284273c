"""The routes of the OpenAI API, asked by the `openai` package; the stages are played by the test."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from callsheet.jobs.messages import Failed, Partial
from tests.http.service import Api, Stages, served
from tests.waiting import eventually

SOUND = ("talk.wav", b"RIFF and so on", "audio/wav")
TRANSCRIPT: dict[str, Any] = {
    "language": "de",
    "duration": 3.2,
    "utterances": [
        {"id": 0, "start": 0.5, "end": 1.0, "text": "Guten Tag.", "confidence": 0.9,
         "words": [{"punctuated_word": "Guten", "start": 0.5, "end": 0.7},
                   {"punctuated_word": "Tag.", "start": 0.7, "end": 1.0}]},
        {"id": 1, "start": 2.0, "end": 3.0, "text": "Und Schluss.", "confidence": 0.5,
         "words": [{"punctuated_word": "Und", "start": 2.0, "end": 2.5},
                   {"punctuated_word": "Schluss.", "start": 2.5, "end": 3.0}]},
    ],
}  # fmt: skip
TEXT = "Guten Tag. Und Schluss."
FILES = {"transcript.json": json.dumps(TRANSCRIPT).encode()}


@pytest.fixture(scope="module")
def spoken(addresses: dict[str, str], host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API of the live service, with a pipeline `transcribe` whose stages are played."""
    folder = tmp_path_factory.mktemp("spoken")
    changes = {"pipelines": "tests.http.spoken:pipeline", "api_workers": "1", "feed_ping_seconds": "0.3"}
    with served(folder / "api.log", **{**addresses, **changes}) as role:
        yield role
    assert "Traceback" not in role.said()


@pytest.fixture
def ai(spoken: Api) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{spoken.url}/v1", api_key="sk-none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def asked(spoken: Api) -> Iterator[Callable[..., tuple[str, Future[Any]]]]:
    """`asked(request)`: start a request, and give the job that it made, and what will come of it."""
    with ThreadPoolExecutor(1) as pool:

        def ask(request: Callable[[], Any]) -> tuple[str, Future[Any]]:
            before = newest(spoken)
            answer = pool.submit(request)
            return newer(spoken, before), answer

        yield ask


def newest(api: Api) -> str:
    """The latest job."""
    jobs = httpx.get(f"{api.url}/v1/jobs?limit=1").json()["jobs"]
    return str(jobs[0]["id"]) if jobs else ""


def newer(api: Api, before: str) -> str:
    """The next job after that one, once there is one."""
    return eventually(lambda: job if (job := newest(api)) != before else None)


def status(api: Api, job: str) -> str:
    return str(httpx.get(f"{api.url}/v1/jobs/{job}").json()["status"])


def finish(stages: Stages, job: str) -> None:
    stages.succeed(job, "probe", stages.start(job, "probe"))
    stages.succeed(job, "transcribe", stages.start(job, "transcribe"), **FILES)


def test_the_answer_comes_when_the_job_has_ended_and_names_it(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages
) -> None:
    job, answer = asked(lambda: ai.audio.transcriptions.with_raw_response.create(model="whisper-1", file=SOUND))
    assert not answer.done()
    finish(stages, job)
    raw = answer.result(60)
    assert raw.headers["x-callsheet-job"] == job
    heard = raw.parse()
    assert (heard.text, heard.usage.type, heard.usage.seconds) == (TEXT, "duration", 4)


def test_verbose_json_has_segments_and_words_as_asked(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages
) -> None:
    def request(**more: Any) -> Any:
        key = {"Idempotency-Key": "verbose"}
        return ai.audio.transcriptions.create(
            model="whisper-1", file=SOUND, response_format="verbose_json", extra_headers=key, **more
        )

    job, answer = asked(request)
    finish(stages, job)
    heard = answer.result(60)
    assert (heard.language, heard.duration, heard.text, heard.words) == ("german", 3.2, TEXT, None)
    assert [(s.id, s.start, s.end, s.text) for s in heard.segments] == [
        (0, 0.5, 1.0, " Guten Tag."), (1, 2.0, 3.0, " Und Schluss."),
    ]  # fmt: skip
    assert heard.segments[1].avg_logprob == pytest.approx(-0.6931)
    words = request(timestamp_granularities=["word"])
    assert words.segments is None
    assert [(w.word, w.start, w.end) for w in words.words][:2] == [("Guten", 0.5, 0.7), ("Tag.", 0.7, 1.0)]
    both = request(timestamp_granularities=["word", "segment"])
    assert (len(both.words), len(both.segments)) == (4, 2)


def test_diarized_json_tells_who_speaks(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages, spoken: Api
) -> None:
    job, answer = asked(
        lambda: ai.audio.transcriptions.create(
            model="gpt-4o-transcribe-diarize", file=SOUND, response_format="diarized_json", chunking_strategy="auto"
        )
    )
    told = {**TRANSCRIPT, "utterances": [{**u, "speaker": n} for n, u in enumerate(TRANSCRIPT["utterances"])]}
    stages.succeed(job, "probe", stages.start(job, "probe"))
    stages.succeed(job, "transcribe", stages.start(job, "transcribe"), **{"transcript.json": json.dumps(told).encode()})
    heard = answer.result(60)
    assert (heard.task, heard.duration, heard.text, heard.usage.seconds) == ("transcribe", 3.2, TEXT, 4)
    assert [(s.type, s.id, s.speaker, s.start, s.end, s.text) for s in heard.segments] == [
        ("transcript.text.segment", "seg_0", "A", 0.5, 1.0, " Guten Tag."),
        ("transcript.text.segment", "seg_1", "B", 2.0, 3.0, " Und Schluss."),
    ]
    params = httpx.get(f"{spoken.url}/v1/jobs/{job}").json()["params"]
    assert (params["diarize"], params.get("model")) == (True, "base")


def test_a_translation_has_no_speakers(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        ai.audio.translations.create(model="whisper-1", file=SOUND, response_format="diarized_json")  # type: ignore[call-overload]
    assert error.value.param == "response_format"


def test_params_are_what_the_client_asked_for(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages, spoken: Api
) -> None:
    def request() -> Any:
        return ai.audio.translations.create(
            model="large-v3", file=SOUND, prompt="x" * 600, temperature=0.2, response_format="text"
        )

    job, answer = asked(request)
    params = httpx.get(f"{spoken.url}/v1/jobs/{job}").json()["params"]
    assert (params["model"], params["hint"], params["temperature"], params["translate"]) == (
        "large-v3", "x" * 500, 0.2, True,
    )  # fmt: skip
    finish(stages, job)
    assert answer.result(60) == f"{TEXT}\n"


def test_streaming_gives_what_is_heard_as_it_is_heard_also_over_a_second_try(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages
) -> None:
    deltas, first, more = list[str](), threading.Event(), threading.Event()

    def request() -> str:
        for event in ai.audio.transcriptions.create(model="whisper-1", file=SOUND, stream=True):
            if event.type == "transcript.text.done":
                return event.text
            assert event.type == "transcript.text.delta"
            deltas.append(event.delta)
            (more if first.is_set() else first).set()
        raise AssertionError("it ended without the whole")

    def tell(token: int, n: int, *ids: int) -> None:
        said = [{"id": i, "text": TRANSCRIPT["utterances"][i]["text"]} for i in ids]
        stages.jobs.tell(job, Partial("transcribe", token, n, {"utterances": said}))

    job, answer = asked(request)
    stages.succeed(job, "probe", stages.start(job, "probe"))
    token = stages.start(job, "transcribe")
    tell(token, 1, 0)
    assert first.wait(60), "before the job has ended"
    assert stages.jobs.ask(job, Failed("transcribe", token, "worker_error", "try again", True)).ok
    token = stages.start(job, "transcribe")
    tell(token, 1, 0, 1)
    assert more.wait(60)
    stages.succeed(job, "transcribe", token, **FILES)
    assert answer.result(60) == TEXT
    assert deltas == ["Guten Tag.", " Und Schluss."]


def test_what_was_not_told_while_it_was_heard_is_told_at_the_end(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages
) -> None:
    """As when the output of an earlier job is used again."""
    job, answer = asked(lambda: list(ai.audio.transcriptions.create(model="whisper-1", file=SOUND, stream=True)))
    finish(stages, job)
    *deltas, done = answer.result(60)
    assert ([event.delta for event in deltas], done.text) == (["Guten Tag.", " Und Schluss."], TEXT)


def test_a_client_that_leaves_leaves_no_work_behind(spoken: Api, stages: Stages) -> None:
    for stream in ("false", "true"):
        before = newest(spoken)
        link = ask_by_hand(spoken, stream)
        job = newer(spoken, before)
        token = stages.start(job, "probe")
        if stream == "true":
            stages.succeed(job, "probe", token)
            assert b"200 OK" in link.recv(1000)
        link.close()
        eventually(lambda: status(spoken, job) in ("cancelling", "cancelled"))  # noqa: B023


def test_a_client_that_named_the_job_may_come_back_for_it(spoken: Api, ai: openai.OpenAI, stages: Stages) -> None:
    before = newest(spoken)
    with ask_by_hand(spoken, "false", "Idempotency-Key: back\r\n"):
        job = newer(spoken, before)
    token = stages.start(job, "probe")
    key = {"Idempotency-Key": "back"}
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(
            lambda: ai.audio.transcriptions.create(
                model="whisper-1", file=("a.wav", b"x", "audio/wav"), extra_headers=key
            )
        )
        stages.succeed(job, "probe", token)
        stages.succeed(job, "transcribe", stages.start(job, "transcribe"), **FILES)
        assert again.result(60).text == TEXT
    assert newest(spoken) == job


def test_what_is_no_form_is_told_so(spoken: Api) -> None:
    answer = httpx.post(f"{spoken.url}/v1/audio/transcriptions", json={"model": "whisper-1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_form_of_10_000_good_parts_is_refused_before_most_of_them(spoken: Api) -> None:
    """The one field that may be repeated."""
    field = b'--b\r\nContent-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nword\r\n'
    before = newest(spoken), spoken.files()
    answer = httpx.post(
        f"{spoken.url}/v1/audio/transcriptions",
        content=field * 10_000 + b"--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_multipart")
    assert newest(spoken) == before[0]
    assert set(spoken.files()) <= set(before[1])


def ask_by_hand(api: Api, stream: str, header: str = "") -> socket.socket:
    """A request on a connection of our own."""
    fields = {"model": b"whisper-1", "stream": stream.encode(), "file": b"x"}
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b'; filename="a.wav"\r\nContent-Type: audio/wav' if name == "file" else b"", value)
        for name, value in fields.items()
    )
    body += b"--b--\r\n"
    link = socket.create_connection(("127.0.0.1", api.port), timeout=60)
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    )
    link.sendall(f"{head}{header}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return link


@pytest.mark.parametrize(
    ("code", "retryable", "kind", "told", "param"),
    [
        ("unsupported_container", False, openai.BadRequestError, "unsupported_container", "file"),
        ("language_unsupported", False, openai.BadRequestError, "language_unsupported", "language"),
        ("model_unavailable", False, openai.NotFoundError, "model_not_found", "model"),
        ("stage_crashed", True, openai.InternalServerError, "stage_crashed", None),
        ("stage_error", False, openai.InternalServerError, "stage_error", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_job_that_fails_is_an_error_of_its_kind(
    ai: openai.OpenAI,
    asked: Callable[..., Any],
    stages: Stages,
    *,
    code: str,
    retryable: bool,
    kind: type[openai.APIStatusError],
    told: str,
    param: str | None,
    stream: bool,
) -> None:
    def request() -> openai.APIStatusError:
        with pytest.raises(kind) as error:
            ai.audio.transcriptions.create(model="whisper-1", file=SOUND, stream=stream)
        return error.value

    job, answer = asked(request)
    token = stages.start(job, "probe")
    assert stages.jobs.ask(job, Failed("probe", token, code, "it is broken", retryable)).ok
    error = answer.result(60)
    assert (error.code, error.param) == (told, param)
    assert "it is broken" in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.headers["x-callsheet-job"] == job


def test_an_end_in_the_middle_of_a_stream_is_told_in_it(
    ai: openai.OpenAI, asked: Callable[..., Any], stages: Stages, spoken: Api
) -> None:
    def request() -> str:
        with pytest.raises(openai.APIError) as error:
            list(ai.audio.transcriptions.create(model="whisper-1", file=SOUND, stream=True))
        return str(error.value.code)

    job, answer = asked(request)
    stages.succeed(job, "probe", stages.start(job, "probe"))
    httpx.post(f"{spoken.url}/v1/jobs/{job}/cancel").raise_for_status()
    assert answer.result(60) == "job_cancelled"


def test_a_wait_is_bounded_and_the_job_goes_on(make_api: Callable[..., Api]) -> None:
    api = make_api(pipelines="tests.http.spoken:pipeline", openai_wait_seconds="0.2")
    # One that would try again, if it was not told that this does not help.
    with (
        openai.OpenAI(base_url=f"{api.url}/v1", api_key="sk-none", timeout=30) as ai,
        pytest.raises(openai.InternalServerError) as error,
    ):
        ai.audio.transcriptions.create(model="whisper-1", file=SOUND)
    job = error.value.response.headers["x-callsheet-job"]
    assert (error.value.status_code, error.value.code, newest(api)) == (504, "job_takes_long", job)
    assert status(api, job) == "queued"
    httpx.post(f"{api.url}/v1/jobs/{job}/cancel").raise_for_status()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "model", "missing_part"),
        ({"model": "../etc"}, "model", "invalid_params"),
        ({"model": "whisper-1", "language": "English"}, "language", "invalid_params"),
        ({"model": "whisper-1", "response_format": "docx"}, "response_format", "invalid_field"),
        ({"model": "whisper-1", "temperature": "hot"}, "temperature", "invalid_field"),
        ({"model": "whisper-1", "temperature": "2"}, "temperature", "invalid_field"),
        ({"model": "whisper-1", "stream": "perhaps"}, "stream", "invalid_field"),
        ({"model": "whisper-1", "stream": "true", "response_format": "srt"}, "stream", "invalid_field"),
        ({"model": "whisper-1", "timestamp_granularities[]": "word"}, "timestamp_granularities", "invalid_field"),
        ({"model": "whisper-1", "include[]": "logprobs"}, "include[]", "unexpected_part"),
    ],
)
def test_what_cannot_be_is_refused_in_the_shape_of_that_api(
    spoken: Api, fields: dict[str, str], param: str, code: str
) -> None:
    answer = httpx.post(f"{spoken.url}/v1/audio/transcriptions", data=fields, files={"file": SOUND})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (
        400, "invalid_request_error", param, code,
    )  # fmt: skip
    assert isinstance(error["message"], str)


def test_every_error_below_the_path_has_that_shape(spoken: Api) -> None:
    assert httpx.get(f"{spoken.url}/v1/audio/transcriptions").json()["error"]["code"] == "method_not_allowed"
    assert httpx.post(f"{spoken.url}/v1/audio/speech").json()["error"]["code"] == "not_found"
    assert httpx.post(f"{spoken.url}/v1/jobs").json()["code"] == "unsupported_media_type", "and others have theirs"
