"""What is written beside a clip: a title, a hook, a description for each platform; all in the speaker's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from callsheet.media.features import is_term, term_weights, why
from callsheet.media.material import Choice
from callsheet.media.sentences import Sentence, sentences
from callsheet.media.transcript import Word

TITLE, HOOK = 70, 60  # characters
LIMITS = {"youtube": 5000, "tiktok": 2200, "instagram": 2200, "x": 280}
TAGS = 4
TRIMMED = ",;:.!…—–- "  # noqa: RUF001  (dashes of both lengths are meant)


def written(choice: Choice, words: Sequence[Word], number: int) -> Choice:
    """The choice with what its chooser left empty. `words` are those heard in it."""
    spoken = sentences(words, 30.0)
    weights = term_weights(words, spoken)
    title = choice.title or _title(spoken, words, weights) or f"Clip {number + 1}"
    return msgspec.structs.replace(
        choice,
        why=choice.why or why(choice.features),
        title=title,
        hook=choice.hook or _hook(spoken, title if spoken else ""),
        descriptions=_descriptions(title, spoken, words) | choice.descriptions,
    )


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words, with an ellipsis where something is missing."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    return (kept[: kept.rfind(" ")] if " " in kept[limit // 2 :] else kept).rstrip(TRIMMED) + "…"


def _title(spoken: Sequence[Sentence], words: Sequence[Word], weights: dict[str, float]) -> str:
    """The sentence with the weightiest words; the first one where none stands out."""
    if not spoken:
        return ""

    def weight(sentence: Sentence) -> float:
        part = words[sentence.first : sentence.last + 1]
        return sum(weights.get(word.word, 0.0) for word in part) / (len(part) + 3) + 0.1 * ("?" in sentence.text)

    best = max(spoken, key=weight).text.strip(TRIMMED)
    return shortened(best[:1].upper() + best[1:], TITLE)


def _hook(spoken: Sequence[Sentence], title: str) -> str:
    """The first question that is short enough to be read at a glance, else the title."""
    questions = [s.text for s in spoken if s.text.endswith(("?", "？")) and len(s.text) <= HOOK]  # noqa: RUF001
    return shortened(questions[0] if questions else title, HOOK)


def _descriptions(title: str, spoken: Sequence[Sentence], words: Sequence[Word]) -> dict[str, str]:
    said = Counter(word.word for word in words if is_term(word.word) and len(word.word) > 5)
    tags = " ".join(f"#{term}" for term, _ in sorted(said.items(), key=lambda item: (-item[1], item[0]))[:TAGS])
    text = " ".join(sentence.text for sentence in spoken)
    bodies = {
        "youtube": f"{title}\n\n{shortened(text, 600)}\n\n{tags} #shorts",
        "tiktok": f"{shortened(title, 120)} {tags}",
        "instagram": f"{title}\n\n{shortened(text, 300)}\n\n{tags}",
        "x": f"{shortened(title, 180)} {tags}",
    }
    return {name: shortened_lines(body, LIMITS[name]) for name, body in bodies.items()}


def shortened_lines(text: str, limit: int) -> str:
    """At most `limit` characters, without empty lines at its ends; line breaks stay."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(lines)[:limit].strip()
