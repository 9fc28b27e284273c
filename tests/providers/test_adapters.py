"""The adapters of Gemini and fal.ai, against servers that speak their protocols, and fail in every way."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import msgspec
import pytest

from callsheet.media.providers import web
from callsheet.media.providers.base import Order, ProviderError, ProviderSettings, check_configured
from callsheet.media.providers.fal import Fal
from callsheet.media.providers.gemini import Gemini
from tests.providers.fakes import KEY, PNG, FakeFal, FakeGemini, Reply

MODEL = "fal-ai/id-v2v/relight"
PICTURE = Order("gemini-nano-banana-2.1", {"prompt": "relight"})


@pytest.fixture
def order(clip: Path) -> Order:
    return Order(MODEL, {"prompt": "dusk"}, {"video_url": (clip, "video/mp4")}, answer="video", limit=1000)


def test_a_video_goes_up_is_worked_on_and_comes_back(
    fal: FakeFal, settings: ProviderSettings, order: Order, clip: Path, target: Path
) -> None:
    provider = Fal(settings)
    ref = provider.submit(provider.prepare(order), target)
    while provider.poll(ref).state != "done":
        pass
    provider.fetch(ref, order, target)
    assert target.read_bytes() == b"a video"
    assert fal.orders["request-1"]["model"] == MODEL
    assert fal.orders["request-1"]["arguments"] == {"prompt": "dusk", "video_url": f"{fal.url}/files/0.bin"}
    assert list(fal.uploads.values()) == [clip.read_bytes()]


def test_a_picture_is_made_from_a_prompt_and_a_picture(
    gemini: FakeGemini, settings: ProviderSettings, clip: Path, target: Path
) -> None:
    order = Order(PICTURE.model, {"prompt": "relight"}, {"image": (clip, "image/jpeg")})
    assert Gemini(settings).submit(order, target).done
    assert target.read_bytes() == PNG
    text, image = gemini.asked[0]["contents"][0]["parts"]
    assert text == {"text": "relight"}
    assert base64.b64decode(image["inlineData"]["data"]) == clip.read_bytes()


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "calls"),
    [
        (Reply(429, headers={"Retry-After": "0"}), "provider_busy", True, web.TRIES),
        (Reply(503, b"no upstream"), "provider_unavailable", True, web.TRIES),
        (Reply(401, {"detail": "bad key"}), "provider_denied", False, 1),
        (Reply(422, {"detail": [{"msg": "video too long"}]}), "provider_refused", False, 1),
    ],
)
def test_an_order_that_was_certainly_not_taken_is_repeated_where_that_can_help(
    *, fal: FakeFal, settings: ProviderSettings, target: Path, reply: Reply, code: str, retryable: bool, calls: int
) -> None:
    fal.plans["submit"] = [reply] * calls
    with pytest.raises(ProviderError) as caught:
        Fal(settings).submit(Order(MODEL, {}), target)
    assert (caught.value.code, caught.value.retryable, caught.value.taken) == (code, retryable, False)
    assert fal.calls == ["submit"] * calls
    assert fal.paid == 0


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, {"detail": "oh"}),
        Reply(504, headers={"x-fal-request-id": "1"}),
        Reply(200, b"not json"),
        Reply(200, b"x" * (web.MAX_JSON + 1)),
        Reply(200, {"request_id": "a", "status_url": "https://elsewhere.example/status"}),
        Reply(200, {"request_id": "a" * 300}, cut=True),
    ],
    ids=["500", "504 of the queue", "no json", "huge", "a foreign url", "cut off"],
)
def test_an_order_that_may_have_been_taken_is_not_repeated(
    fal: FakeFal, settings: ProviderSettings, target: Path, reply: Reply
) -> None:
    fal.plans["submit"] = [reply]
    with pytest.raises(ProviderError) as caught:
        Fal(settings).submit(Order(MODEL, {}), target)
    assert caught.value.taken is None
    assert fal.calls == ["submit"]


def test_a_retry_after_is_waited_for(
    fal: FakeFal, settings: ProviderSettings, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    fal.plans["submit"] = [Reply(429, headers={"Retry-After": "7"}), Reply(429, headers={"Retry-After": "9999"})]
    Fal(settings).submit(Order(MODEL, {}), target)
    assert [p for p in pauses if p] == [7.0, web.LONGEST_PAUSE]


def test_a_pause_that_google_asks_for_in_the_body_is_waited_for(
    gemini: FakeGemini, settings: ProviderSettings, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}
    error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [info]}
    gemini.plans["generate"] = [Reply(429, {"error": error})]
    Gemini(settings).submit(PICTURE, target)
    assert [p for p in pauses if p] == [34.07]


def test_a_job_that_fails_there_is_a_failure_with_its_reason(
    fal: FakeFal, settings: ProviderSettings, target: Path
) -> None:
    fal.error, provider = "runner\nexploded", Fal(settings)
    ref = provider.submit(Order(MODEL, {}), target)
    with pytest.raises(ProviderError, match="runner exploded") as caught:
        provider.poll(ref)
    assert (caught.value.code, caught.value.retryable) == ("provider_failed", False)


@pytest.mark.parametrize(
    ("what", "reply", "code"),
    [
        ("status", Reply(200, {"status": "DANCING"}), "provider_bad_answer"),
        ("result", Reply(200, {"video": {"url": "http://169.254.169.254/x"}}), "provider_bad_answer"),
        ("result", Reply(200, {"video": {"url": "https://fal.media.evil.example/x"}}), "provider_bad_answer"),
        ("result", Reply(200, {"images": []}), "provider_bad_answer"),
        ("result", Reply(422, {"detail": "bad input"}), "provider_failed"),
        ("download", Reply(200, b"x" * 1001), "provider_bad_answer"),
    ],
)
def test_an_answer_that_is_not_in_the_protocol_is_refused_by_name(
    *, fal: FakeFal, settings: ProviderSettings, target: Path, what: str, reply: Reply, code: str
) -> None:
    provider, fal.plans[what] = Fal(settings), [reply]
    order = Order(MODEL, {}, answer="video", limit=1000)
    ref = provider.submit(order, target)
    with pytest.raises(ProviderError) as caught:
        _ = provider.poll(ref), provider.fetch(ref, order, target)  # type: ignore[func-returns-value]
    assert caught.value.code == code


def test_a_transient_fault_while_polling_or_fetching_is_repeated(
    fal: FakeFal, settings: ProviderSettings, target: Path
) -> None:
    provider = Fal(settings)
    fal.plans["status"] = [Reply(500), Reply(200, {"status": "COMPLETED"}, cut=True)]
    fal.plans["download"] = [Reply(200, b"a video", cut=True)]
    order = Order(MODEL, {}, answer="video")
    ref = provider.submit(order, target)
    assert provider.poll(ref).state == "done"
    provider.fetch(ref, order, target)
    assert target.read_bytes() == b"a video"


def test_an_order_is_cancelled_there_unless_it_is_over(fal: FakeFal, settings: ProviderSettings, target: Path) -> None:
    provider = Fal(settings)
    first, second = (provider.submit(Order(MODEL, {}), target) for _ in range(2))
    provider.poll(second)
    assert (provider.cancel(first), provider.cancel(second)) == (True, False)
    assert fal.cancelled == ["request-1"]


@pytest.mark.parametrize(
    ("reply", "code", "taken"),
    [
        (Reply(200, {"promptFeedback": {"blockReason": "SAFETY"}}), "provider_failed", False),
        (Reply(200, {"candidates": [{"finishReason": "IMAGE_SAFETY"}]}), "provider_failed", False),
        (
            Reply(200, {"candidates": [{"content": {"parts": [{"inlineData": {"data": "?"}}]}}]}),
            "provider_bad_answer",
            None,
        ),
        (Reply(200, {"candidates": "many"}), "provider_bad_answer", None),
        (Reply(400, {"error": {"message": "bad model"}}), "provider_refused", False),
    ],
)
def test_a_picture_that_is_not_made_is_told_with_its_reason(
    *, gemini: FakeGemini, settings: ProviderSettings, target: Path, reply: Reply, code: str, taken: bool | None
) -> None:
    gemini.plans["generate"] = [reply]
    with pytest.raises(ProviderError) as caught:
        Gemini(settings).submit(PICTURE, target)
    assert (caught.value.code, caught.value.taken) == (code, taken)
    assert gemini.calls == ["generate"]


def test_an_answer_that_does_not_come_is_given_up(gemini: FakeGemini, settings: ProviderSettings, target: Path) -> None:
    gemini.plans["generate"] = [Reply(hang=60.0)]
    with pytest.raises(ProviderError, match="did not answer in time") as caught:
        Gemini(msgspec.structs.replace(settings, call_seconds=0.05)).submit(PICTURE, target)
    assert caught.value.taken is None


def test_a_provider_that_is_not_configured_says_what_to_set() -> None:
    with pytest.raises(ProviderError, match="set CALLSHEET_FAL_KEY") as caught:
        check_configured("fal", "Relighting")
    assert caught.value.code == "provider_not_configured"


@pytest.mark.parametrize("status", [401, 402, 403, 500])
def test_a_provider_that_repeats_our_key_does_not_show_it_to_the_client(
    fal: FakeFal, settings: ProviderSettings, target: Path, status: int
) -> None:
    fal.plans["submit"] = [Reply(status, {"detail": f"{KEY} cannot be used (secr…test)"})]
    with pytest.raises(ProviderError) as caught:
        Fal(settings).submit(Order(MODEL, {}), target)
    assert KEY not in str(caught.value)
    assert ("cannot be used" in str(caught.value)) == (status != 401)  # of a wrong key parts are shown


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"msg": "too long", "loc": ["body"]}]},
        {"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}},
        {"error": "too long"},
        {"err_code": "Bad Request", "err_msg": "too long", "request_id": "r"},
        {"category": "INVALID_JSON", "message": "too long", "details": "at line 7", "request_id": "r"},
    ],
    ids=["fal", "Gemini and OpenAI", "a local server", "Deepgram", "Deepgram, new"],
)
def test_what_an_error_says_is_told_whoever_says_it(
    fal: FakeFal, settings: ProviderSettings, target: Path, body: dict[str, object]
) -> None:
    fal.plans["submit"] = [Reply(400, body)]
    with pytest.raises(ProviderError, match=r"refused \(400\): too long\."):
        Fal(settings).submit(Order(MODEL, {}), target)


def test_the_draft_of_a_model_that_thinks_is_not_taken_for_its_picture(
    gemini: FakeGemini, settings: ProviderSettings, target: Path
) -> None:
    def part(picture: bytes) -> dict[str, object]:
        return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(picture).decode()}}

    parts = [{"text": "Let me see.", "thought": True}, {**part(b"a draft"), "thought": True}, part(PNG)]
    gemini.plans["generate"] = [Reply(200, {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})]
    Gemini(settings).submit(PICTURE, target)
    assert target.read_bytes() == PNG


def test_keys_are_in_no_text(settings: ProviderSettings) -> None:
    assert settings.fal_key not in repr(settings)
    assert settings.without_keys().fal_key == ""
