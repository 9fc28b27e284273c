"""Pictures by Gemini: `models/{model}:generateContent` with inline image data, over REST.

Source: "Image generation" and "generateContent" in the Gemini API's reference (ai.google.dev). The call is synchronous:
the picture comes with the answer, so there is nothing to ask for later, and nothing to cancel.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from callsheet.media.providers.base import Order, ProviderError, ProviderSettings, Ref, Status
from callsheet.media.providers.web import Web, bad_answer

MAX_ANSWER = 48 << 20  # bytes: a picture of 4K as PNG in base64
FINE = ("STOP", "MAX_TOKENS", None)


class Gemini:
    """The adapter. Arguments: `prompt`, and `aspect` (such as "16:9") where there is no picture to start from."""

    name = "gemini"

    def __init__(self, settings: ProviderSettings) -> None:
        self._base = settings.gemini_url.rstrip("/")
        # A request that ends in 500 is not charged for, says the pricing page, so it may be repeated.
        self._web = Web("Gemini", {"x-goog-api-key": settings.gemini_key}, settings.call_seconds, free=lambda _: True)

    def prepare(self, order: Order) -> Order:
        """There is nothing to send ahead."""
        return order

    def submit(self, order: Order, target: Path) -> Ref:
        """Have a picture made; it lies at `target` when this returns."""
        url = f"{self._base}/v1beta/models/{order.model}:generateContent"
        answer = self._web.call("POST", url, json=_request(order), once=True, limit=MAX_ANSWER).json()
        target.write_bytes(_picture(answer))
        return Ref(self.name, str(answer.get("responseId", ""))[:200], done=True)

    def poll(self, ref: Ref) -> Status:
        """It came with the answer."""
        return Status("done" if ref.done else "running")

    def fetch(self, _ref: Ref, _order: Order, _target: Path) -> None:
        """What came with an answer can be had from nowhere else."""
        raise ProviderError("provider_failed", "Gemini keeps no pictures; this one has to be made again.")

    def cancel(self, _ref: Ref) -> bool:
        """A call cannot be taken back."""
        return False


def _request(order: Order) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": order.arguments["prompt"]}]
    for path, media_type in order.files.values():
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append({"inlineData": {"mimeType": media_type, "data": data}})
    config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
    if aspect := order.arguments.get("aspect"):
        config["imageConfig"] = {"aspectRatio": aspect}
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def _picture(answer: dict[str, Any]) -> bytes:
    """The first picture in an answer. ProviderError: provider_failed (with its reason), provider_bad_answer."""
    try:
        candidates = answer.get("candidates") or []
        if not candidates:
            reason = (answer.get("promptFeedback") or {}).get("blockReason", "no candidate")
            raise _nothing(reason)
        parts = (candidates[0].get("content") or {}).get("parts") or []
        for part in parts:
            inline = part.get("inlineData") or part.get("inline_data")
            if inline and not part.get("thought"):  # a draft: models that think show them before the picture
                return base64.b64decode(inline["data"], validate=True)
        reason = candidates[0].get("finishReason")
    except (AttributeError, KeyError, IndexError, TypeError, binascii.Error, ValueError):
        raise bad_answer("its picture is not where it belongs") from None
    raise _nothing("no picture in it" if reason in FINE else reason)


def _nothing(reason: Any) -> ProviderError:
    return ProviderError("provider_failed", f"Gemini made no picture: {str(reason)[:100]}.", taken=False)
