"""Recognition by others: what is asked, what becomes of every answer, and that it is paid once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
import msgspec
import pytest

from callsheet.media.errors import MediaError
from callsheet.media.languages import LANGUAGES, code_of
from callsheet.media.probe import probe as probe_file
from callsheet.media.providers import base, web
from callsheet.media.providers.base import ProviderSettings
from callsheet.media.transcript import Transcript
from callsheet.pipelines import transcribe as recipe
from callsheet.pipelines.declare import InputFile
from callsheet.pipelines.transcribe import pipeline
from callsheet.pipelines.transcribe_params import TranscribeParams
from tests.media.engines import FakeDeepgram, FakeOpenAI
from tests.media.running import RecordingContext
from tests.providers.fakes import KEY, Reply, serving


@pytest.fixture
def deepgram() -> Iterator[FakeDeepgram]:
    server = FakeDeepgram()
    with serving(server):
        yield server


@pytest.fixture
def openai() -> Iterator[FakeOpenAI]:
    server = FakeOpenAI()
    with serving(server):
        yield server


@pytest.fixture(autouse=True)
def settings(deepgram: FakeDeepgram, openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> ProviderSettings:
    made = ProviderSettings(
        deepgram_key=KEY,
        deepgram_url=deepgram.url,
        openai_key=KEY,
        openai_url=f"{openai.url}/v1",
        openai_minute_price=0.006,
        recognition_seconds=60.0,
        ready=("deepgram", "openai"),
    )
    monkeypatch.setattr(base, "_current", made)
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.01)
    return made


class Attempt:
    """A job of one recording; its stages may be run again and again."""

    def __init__(self, root: Path, recording: Path) -> None:
        self.root, self.recording, self.number = root, recording, 0
        facts = probe_file(recording)
        self.data: dict[str, Any] = {"probe": {"facts": msgspec.to_builtins(facts)}}
        self.data |= {"quality": {"warnings": []}, "speech": {"warnings": []}}
        self._run("audio")

    def _run(self, stage: str, **params: Any) -> Any:
        source = InputFile(self.recording, self.recording.name, "audio/flac", self.recording.stat().st_size)
        made = msgspec.convert(params, TranscribeParams)
        context = RecordingContext(self.root, stage, pipeline.params_of(stage, made), source, self.data)
        return pipeline.function(stage)(context)

    def transcribe(self, **params: Any) -> Transcript:
        """Run the stage in a folder that is new, as each try has one."""
        if self.number:
            (self.root / "transcribe").rename(self.root / f"transcribe-{self.number}")
        self.number += 1
        self._run("transcribe", **params)
        return msgspec.json.decode((self.root / "transcribe" / "words.json").read_bytes(), type=Transcript)

    def artifacts(self, **params: Any) -> tuple[Any, Path]:
        return self._run("artifacts", **params), self.root / "artifacts"


@pytest.fixture
def attempt(tmp_path: Path, jfk: Path) -> Attempt:
    return Attempt(tmp_path, jfk)


DEEPGRAM = {"engine": "deepgram", "diarize": True, "summarize": True}


def test_deepgram_is_asked_for_all_and_sent_the_sound_itself(attempt: Attempt, deepgram: FakeDeepgram) -> None:
    attempt.transcribe(**DEEPGRAM)
    assert {name: values[0] for name, values in deepgram.queries[0].items()} == {
        "model": "nova-2",
        "smart_format": "true",
        "punctuate": "true",
        "utterances": "true",
        "paragraphs": "true",
        "diarize": "true",
        "detect_language": "true",
        "summarize": "v2",
    }
    assert deepgram.received == (attempt.root / "audio" / "speech.wav").read_bytes()
    attempt.transcribe(engine="deepgram", language="de")
    assert (deepgram.queries[1]["language"], "detect_language" in deepgram.queries[1]) == (["de"], False)


def test_deepgrams_speakers_are_in_words_utterances_paragraphs_and_every_artifact(attempt: Attempt) -> None:
    made = attempt.transcribe(**DEEPGRAM)
    assert [word.speaker for word in made.words] == [0, 0, 1, 1, 0, 0, 0]
    assert [(u.speaker, u.text) for u in made.utterances] == [
        (0, "Good morning."),
        (1, "Hello, Ann."),
        (0, "How are you?"),
    ]
    assert [p.speaker for p in made.paragraphs] == [0, 1, 0]
    assert [(s.id, s.label, s.utterance_count) for s in made.speakers] == [(0, "Speaker 1", 2), (1, "Speaker 2", 1)]
    assert made.speakers[1].total_duration == 0.7
    output, folder = attempt.artifacts(**DEEPGRAM)
    assert (folder / "transcript.txt").read_text().splitlines()[1] == "[00:02] Speaker 2: Hello, Ann."
    assert "Speaker 2: Hello, Ann." in (folder / "transcript.srt").read_text()
    assert "<v Speaker 2>Hello, Ann." in (folder / "transcript.vtt").read_text()
    document = json.loads((folder / "document.json").read_text())
    assert (document["blocks"][1]["speaker"], document["summary"]) == (1, "Two people greet each other.")
    assert output.result["warnings"] == []


@pytest.mark.parametrize(
    ("params", "rate"),
    [
        ({"engine": "deepgram"}, 0.0043),
        ({"engine": "deepgram", "diarize": True}, 0.006),
        (DEEPGRAM, 0.016),
        ({"engine": "openai"}, 0.006),
    ],
)
def test_the_cost_is_told_by_the_minute(attempt: Attempt, params: dict[str, Any], rate: float) -> None:
    made = attempt.transcribe(**params)
    assert made.cost == pytest.approx(made.duration / 60 * rate, abs=1e-6)
    assert (made.language, made.model) == ("en", {"deepgram": "nova-2", "openai": "whisper-1"}[params["engine"]])


def test_openais_text_is_put_on_the_times_of_its_words(attempt: Attempt, openai: FakeOpenAI) -> None:
    made = attempt.transcribe(engine="openai", hint="Ann, Bob")
    assert [(w.punctuated_word, w.start, w.end) for w in made.words] == [
        ("Good", 0.0, 0.3),
        ("morning.", 0.4, 0.9),
        ("Hello,", 2.0, 2.4),
        ("Ann!", 2.5, 2.9),
    ]
    assert [word.confidence for word in made.words] == pytest.approx([0.9048, 0.9048, 0.8187, 0.8187])
    assert openai.form.count(b'name="timestamp_granularities[]"') == 2
    assert b"verbose_json" in openai.form
    assert b"Ann, Bob" in openai.form


def test_an_endpoint_without_words_has_those_of_its_segments(attempt: Attempt, openai: FakeOpenAI) -> None:
    del openai.answer["words"]
    made = attempt.transcribe(engine="openai", translate=True)
    assert [w.punctuated_word for w in made.words] == ["Good", "morning.", "Hello,", "Ann!"]
    assert made.words[1].start == pytest.approx(0.357, abs=0.001)
    assert made.words[1].end == 1.0
    assert openai.calls == ["translations"]


def test_a_translation_says_so_wherever_the_language_stands(attempt: Attempt, openai: FakeOpenAI) -> None:
    openai.answer["language"] = "german"
    made = attempt.transcribe(engine="openai", translate=True)
    assert (made.language, made.translated) == ("de", True)
    assert recipe._result(made)["translated_to"] == "en"
    _, folder = attempt.artifacts(engine="openai", translate=True, corrected_text=made.text.replace("Ann", "Anna"))
    document = json.loads((folder / "document.json").read_text())
    assert (document["language"], document["translated_to"]) == ("de", "en")
    facts = docx.Document(str(folder / "transcript.docx")).paragraphs[1].text
    assert "language de, translated to English" in facts
    assert json.loads((folder / "transcript.json").read_text())["translated"] is True


@pytest.mark.parametrize("engine", ["deepgram", "openai"])
def test_a_stage_that_runs_again_pays_nothing(
    attempt: Attempt, deepgram: FakeDeepgram, openai: FakeOpenAI, engine: str
) -> None:
    first = attempt.transcribe(engine=engine)
    again = attempt.transcribe(engine=engine)
    assert again.words == first.words
    assert deepgram.paid + openai.paid == 1


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "calls"),
    [
        (Reply(401, {"err_code": "INVALID_AUTH"}), "provider_denied", False, 1),
        (Reply(402, {"err_code": "ASR_PAYMENT_REQUIRED"}), "provider_denied", False, 1),
        (Reply(400, {"err_code": "Bad Request"}), "provider_refused", False, 1),
        (Reply(429, {}, {"Retry-After": "0"}), "provider_busy", True, 4),
        (Reply(503), "provider_unavailable", True, 4),
        (Reply(200, {"results": {"channels": []}}), "payment_unknown", False, 1),
        (Reply(200, b"<html>"), "payment_unknown", False, 1),
        (Reply(200, {"results": "x"}, cut=True), "payment_unknown", False, 1),
    ],
)
def test_what_deepgram_may_answer_has_a_code_and_is_asked_again_only_where_it_cost_nothing(
    *, attempt: Attempt, deepgram: FakeDeepgram, reply: Reply, code: str, retryable: bool, calls: int
) -> None:
    deepgram.plans["listen"] = [reply] * calls
    with pytest.raises(MediaError) as caught:
        attempt.transcribe(engine="deepgram")
    assert (caught.value.code, caught.value.retryable, len(deepgram.calls)) == (code, retryable, calls)


@pytest.mark.parametrize("status", [504, 524])
def test_a_gateway_that_gives_up_does_not_say_what_the_endpoint_behind_it_does(
    attempt: Attempt, openai: FakeOpenAI, status: int
) -> None:
    openai.plans["transcriptions"] = [Reply(status, b"<html>Gateway Time-out</html>")]
    with pytest.raises(MediaError) as caught:
        attempt.transcribe(engine="openai")
    assert (caught.value.code, openai.calls) == ("payment_unknown", ["transcriptions"])


def test_an_answer_too_large_is_not_read(attempt: Attempt, openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callsheet.media.engines.openai.MAX_ANSWER", 1000)
    openai.answer["text"] = "x" * 2000
    with pytest.raises(MediaError, match="larger than 1000 bytes") as caught:
        attempt.transcribe(engine="openai")
    assert caught.value.code == "payment_unknown"


def test_an_engine_that_is_silent_is_given_up_and_asked_again_only_on_the_clients_word(
    attempt: Attempt, deepgram: FakeDeepgram, settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_current", msgspec.structs.replace(settings, recognition_seconds=0.3))
    deepgram.plans["listen"] = [Reply(hang=60.0)]
    for _ in range(2):
        with pytest.raises(MediaError) as caught:
            attempt.transcribe(engine="deepgram")
        deepgram.until("listen")
        assert (caught.value.code, len(deepgram.calls)) == ("payment_unknown", 1)
    monkeypatch.setattr(base, "_current", settings)
    assert attempt.transcribe(engine="deepgram", pay_again=1).word_count == 7


def test_a_busy_engine_is_asked_again_and_then_heard(attempt: Attempt, deepgram: FakeDeepgram) -> None:
    deepgram.plans["listen"] = [Reply(429, {}, {"Retry-After": "0"}), Reply(500)]
    assert attempt.transcribe(engine="deepgram").word_count == 7
    assert (len(deepgram.calls), deepgram.paid) == (3, 1)


@pytest.mark.parametrize(
    ("params", "ready", "code"),
    [
        ({"engine": "deepgram"}, ("openai",), "provider_not_configured"),
        ({"engine": "openai"}, (), "provider_not_configured"),
        ({"engine": "deepgram", "translate": True}, ("deepgram",), "engine_cannot_translate"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_before_any_work(
    *,
    params: dict[str, Any],
    ready: tuple[str, ...],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    jfk: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(base, "_current", ProviderSettings(ready=ready))
    source = InputFile(jfk, "jfk.flac", "audio/flac", 1)
    context = RecordingContext(tmp_path, "probe", msgspec.convert(params, TranscribeParams), source, {})
    with pytest.raises(MediaError) as caught:
        recipe.probe(context)
    assert caught.value.code == code


def test_a_retry_cannot_turn_to_an_engine_that_is_not_configured(
    attempt: Attempt, openai: FakeOpenAI, settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_current", msgspec.structs.replace(settings, ready=("deepgram",)))
    with pytest.raises(MediaError) as caught:
        attempt.transcribe(engine="openai")
    assert (caught.value.code, openai.calls) == ("provider_not_configured", [])


def test_a_process_without_keys_says_that_a_retry_cannot_turn_to_a_paid_engine(
    attempt: Attempt, settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_current", settings.without_keys())
    with pytest.raises(MediaError) as caught:
        attempt.transcribe(engine="deepgram")
    assert caught.value.code == "engine_needs_new_job"


def test_a_job_of_a_paid_engine_runs_where_the_keys_are() -> None:
    def queues(**params: Any) -> dict[str, str]:
        return {spec.name: spec.queue for spec in pipeline.graph(params)}

    assert set(queues().values()) == {"cpu"}
    assert queues(engine="deepgram") == queues() | {"transcribe": "io"}
    assert [spec.name for spec in pipeline.graph({"engine": "openai"})] == [spec.name for spec in pipeline.specs]


def test_a_language_is_known_by_its_name_and_by_its_code() -> None:
    assert {code_of(name) for name in LANGUAGES.values()} == set(LANGUAGES)
    assert (code_of(" German "), code_of("de"), code_of("Klingon")) == ("de", "de", "klingon")
