"""What speaks for a stretch of a recording: features in 0..1, each with the words it is explained by."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from callsheet.media.material import FLOOR, Material, Wish
from callsheet.media.sentences import Sentence
from callsheet.media.shots import SAMPLE_SECONDS
from callsheet.media.transcript import Word

TERM_LETTERS = 4  # shorter words are seldom what a recording is about; no list of stop words knows every language
CUT_NEAR = 0.5  # seconds
NUMBER = re.compile(r"\d")
# English only: in other languages digits alone count as numbers, and no opening is taken for a continuation.
NUMBER_WORDS = frozenset(
    {
        *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twenty", "thirty", "forty", "fifty"),
        *("hundred", "thousand", "million", "billion", "half", "twice", "percent", "first", "second", "third"),
    }
)
CONTINUATIONS = frozenset(
    {
        *("and", "but", "so", "because", "or", "which", "that", "then", "also"),
        *("this", "these", "it", "he", "she", "they"),
    }
)
WHY = {
    "topic": "it speaks of what the recording keeps coming back to",
    "sentences": "it begins and ends with a sentence",
    "rate": "it is spoken briskly",
    "energy": "the voice is stronger than elsewhere",
    "flow": "there are hardly any pauses",
    "questions": "a question is asked",
    "numbers": "figures are named",
    "cuts": "it begins or ends at a cut",
    "motion": "much moves in the picture",
}
LOUD = "it is among what is loudest"  # what energy means where nobody speaks
GOOD = 0.6  # a feature from here up is a reason


def why(features: dict[str, float]) -> str:
    """The two or three strongest reasons in plain words."""
    said = WHY if "motion" not in features else WHY | {"energy": LOUD}
    reasons = [
        said[name] for name, value in sorted(features.items(), key=lambda f: -f[1]) if name in said and value > 0
    ]
    if not reasons:
        return "Nothing in the recording stands out."
    strong = sum(value >= GOOD for name, value in features.items() if name in WHY)
    chosen = reasons[: min(3, max(1, strong))]
    text = chosen[0] if len(chosen) == 1 else ", ".join(chosen[:-1]) + " and " + chosen[-1]
    return text[0].upper() + text[1:] + "."


class Spoken:
    """Features of runs of sentences. Each call costs the same however long the run: everything is summed beforehand."""

    def __init__(self, material: Material, spoken: Sequence[Sentence], wish: Wish) -> None:
        self._material, self._sentences, self._wish = material, spoken, wish
        weights = term_weights(material.words, spoken)
        words = material.words
        self._topic = _sums(sum(weights.get(w.word, 0.0) for w in words[s.first : s.last + 1]) for s in spoken)
        self._count = _sums(s.last - s.first + 1 for s in spoken)
        self._voiced = _sums(sum(w.end - w.start for w in words[s.first : s.last + 1]) for s in spoken)
        self._questions = _sums("?" in s.text[-3:] or "？" in s.text[-3:] for s in spoken)  # noqa: RUF001
        self._numbers = _sums(any(is_number(w) for w in words[s.first : s.last + 1]) for s in spoken)
        self._levels = Levels(material)
        self._loud = self._levels.mean(0.0, material.duration)
        total = max(1e-6, self._voiced[-1])
        self._usual_rate = self._count[-1] / total
        mean_topic = [(t / max(1, n)) for t, n in zip(np.diff(self._topic), np.diff(self._count), strict=True)]
        self._topical = float(np.quantile(mean_topic, 0.9)) if mean_topic else 1.0

    def __call__(self, first: int, last: int) -> dict[str, float]:
        """The features of sentences `first` to `last`."""
        one, other = self._sentences[first], self._sentences[last]
        seconds = max(1e-6, other.end - one.start)
        words = self._between(self._count, first, last)
        voiced = self._between(self._voiced, first, last)
        questions = self._between(self._questions, first, last)
        numbers = self._between(self._numbers, first, last)
        return {
            "topic": _share(self._between(self._topic, first, last) / max(1, words), self._topical),
            "sentences": self._whole(first, last),
            "rate": _between(words / max(1e-6, voiced) / max(1e-6, self._usual_rate), 0.75, 1.25),
            "energy": _between(self._levels.mean(one.start, other.end) - self._loud, -3.0, 6.0),
            "flow": _between(voiced / seconds, 0.4, 0.9),
            "questions": _share(questions / seconds, 1 / 20),
            "numbers": _share(numbers / seconds, 1 / 20),
            "cuts": near_cuts(self._material.shots.cuts, one.start, other.end),
            "length": self._length(seconds),
        }

    def _between(self, sums: Sequence[float], first: int, last: int) -> float:
        return sums[last + 1] - sums[first]

    def _whole(self, first: int, last: int) -> float:
        """Half for the beginning of a sentence that needs nothing before it, half for the end of one."""
        begins = first == 0 or self._sentences[first - 1].whole
        opening = self._material.words[self._sentences[first].first].word
        begin = (0.5 if opening not in CONTINUATIONS else 0.25) if begins else 0.0
        return begin + (0.5 if self._sentences[last].whole else 0.0)

    def _length(self, seconds: float) -> float:
        """1 in the middle of what was asked, 0 at its ends."""
        half = max(1e-6, (self._wish.longest - self._wish.shortest) / 2)
        return max(0.0, 1 - abs(seconds - self._wish.shortest - half) / half)


class Unspoken:
    """Features of stretches without words."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._levels = Levels(material)
        self._loudest = float(np.quantile(material.levels, 0.95)) if material.levels else FLOOR
        self._sounds = self._loudest > FLOOR
        self._motion = np.concatenate([[0.0], np.cumsum(material.shots.motion)])
        self._most = float(np.quantile(material.shots.motion, 0.95)) if material.shots.motion else 1.0

    def __call__(self, start: float, end: float) -> dict[str, float]:
        """The features of seconds start..end."""
        first, last = (min(round(t / SAMPLE_SECONDS), len(self._motion) - 1) for t in (start, end))
        moved = (self._motion[last] - self._motion[first]) / max(1, last - first)
        return {
            "motion": _share(float(moved), max(self._most, 0.5)),
            "energy": _between(self._levels.mean(start, end) - self._loudest, -20.0, 0.0) if self._sounds else 0.0,
            "cuts": near_cuts(self._material.shots.cuts, start, end),
        }


class Levels:
    """The mean level (dB) of any stretch, at once."""

    def __init__(self, material: Material) -> None:
        self._step = material.step
        self._sums = np.concatenate([[0.0], np.cumsum(material.levels)])

    def mean(self, start: float, end: float) -> float:
        """Over seconds start..end; 0 where there is no sound at all."""
        first = min(int(start / self._step), len(self._sums) - 1)
        last = min(max(first + 1, math.ceil(end / self._step)), len(self._sums) - 1)
        return float(self._sums[last] - self._sums[first]) / max(1, last - first)


def term_weights(words: Sequence[Word], spoken: Sequence[Sentence]) -> dict[str, float]:
    """How central each term is: log(1 + how often it is said) · log(sentences / sentences with it), as in tf-idf; terms
    said once weigh nothing, since nothing comes back to them."""
    said = Counter(word.word for word in words if is_term(word.word))
    within = Counter(t for s in spoken for t in {w.word for w in words[s.first : s.last + 1]} if t in said)
    count = len(spoken) + 1
    return {t: math.log1p(n) * math.log(count / within[t]) for t, n in said.items() if n > 1 and within[t]}


def is_term(word: str) -> bool:
    """Whether a word may be what somebody speaks about."""
    return word.isalpha() and (len(word) >= TERM_LETTERS or not word.isascii())


def is_number(word: Word) -> bool:
    """Whether a word is a figure."""
    return bool(NUMBER.search(word.word)) or word.word in NUMBER_WORDS


def near_cuts(cuts: Sequence[float], start: float, end: float) -> float:
    """Half for a cut within half a second of each edge."""
    near = [any(abs(cut - edge) <= CUT_NEAR for cut in cuts) for edge in (start, end)]
    return sum(near) / 2


def _sums(values: Iterable[float]) -> list[float]:
    return list(itertools.accumulate(map(float, values), initial=0.0))


def _share(value: float, full: float) -> float:
    return min(1.0, value / full) if full > 0 else 0.0


def _between(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))
