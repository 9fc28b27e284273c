"""Servers that speak the protocols of Deepgram and of OpenAI's speech and chat endpoints, over sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.providers.fakes import KEY, Reply, Server

SAID: list[tuple[Any, ...]] = [(0, "Good", "morning."), (1, "Hello,", "Ann."), (0, "How", "are", "you?")]


def deepgram_words() -> list[dict[str, Any]]:
    """What two people say, a turn each two seconds."""
    return [
        {
            "word": text.strip(".,?").lower(),
            "start": turn * 2 + n * 0.4,
            "end": turn * 2 + n * 0.4 + 0.3,
            "confidence": 0.95,
            "punctuated_word": text,
            "speaker": speaker,
            "speaker_confidence": 0.8,
        }
        for turn, (speaker, *texts) in enumerate(SAID)
        for n, text in enumerate(texts)
    ]


class FakeDeepgram(Server):
    """`POST /v1/listen`."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[dict[str, list[str]]] = []
        self.received = b""

    def route(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, Callable[[], Reply]]:
        assert (method, urlsplit(path).path) == ("POST", "/v1/listen")
        assert (headers["Authorization"], headers["Content-Type"]) == (f"Token {KEY}", "audio/wav")
        self.queries.append(parse_qs(urlsplit(path).query))
        self.received = body
        return "listen", self._listen

    def _listen(self) -> Reply:
        with self.lock:
            self.paid += 1
        words = deepgram_words()
        alternative = {"transcript": "…", "confidence": 0.9, "words": words, "paragraphs": {"transcript": "…"}}
        channel = {"alternatives": [alternative], "detected_language": "en", "language_confidence": 0.97}
        results: dict[str, Any] = {"channels": [channel], "utterances": []}
        if "summarize" in self.queries[-1]:
            results["summary"] = {"result": "success", "short": "Two people greet each other."}
        return Reply(body={"metadata": {"request_id": "r", "duration": 11.0, "channels": 1}, "results": results})


class FakeOpenAI(Server):
    """`/v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/chat/completions`. `chat` holds the answers of the
    latter in turn (the last again and again): text, or an object that is sent as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: dict[str, Any] = {
            "task": "transcribe",
            "language": "english",
            "duration": 11.0,
            "text": " Good morning. Hello, Ann!",
            "segments": [
                {"id": 0, "start": 0.0, "end": 1.0, "text": " Good morning.", "avg_logprob": -0.1, "no_speech_prob": 0},
                {"id": 1, "start": 2.0, "end": 3.0, "text": " Hello, Ann!", "avg_logprob": -0.2, "no_speech_prob": 0},
            ],
            "words": [
                {"word": "Good", "start": 0.0, "end": 0.3},
                {"word": "morning", "start": 0.4, "end": 0.9},
                {"word": "Hello", "start": 2.0, "end": 2.4},
                {"word": "Ann", "start": 2.5, "end": 2.9},
            ],
        }
        self.chat: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.form = b""

    def route(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, Callable[[], Reply]]:
        assert (method, headers["Authorization"]) == ("POST", f"Bearer {KEY}")
        if path == "/v1/chat/completions":
            self.asked.append(json.loads(body))
            return "chat", self._chat
        assert path in ("/v1/audio/transcriptions", "/v1/audio/translations")
        self.form = body
        return path.rpartition("/")[2], self._recognise

    def _recognise(self) -> Reply:
        with self.lock:
            self.paid += 1
        return Reply(body=self.answer)

    def _chat(self) -> Reply:
        with self.lock:
            self.paid += 1
        said = self.chat.pop(0) if len(self.chat) > 1 else self.chat[0]
        content = said if isinstance(said, str) else json.dumps(said)
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Reply(body={"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]})
