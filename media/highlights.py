"""Which parts of a recording make good clips: scored offline, from the words, the sound and the cuts.

A *candidate* is a run of whole sentences whose length is as asked; where there are no words, a stretch of seconds. Each
is scored by features in 0..1 with the weights below; those with the largest sum that do not overlap are chosen. What
chooses may be replaced (`Chooser`): whatever it answers is held to the material again by `settle`. The formula stands
in docs/shorts.md.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

import msgspec

from callsheet.media.features import Spoken, Unspoken
from callsheet.media.material import Candidate, Choice, Material, Wish
from callsheet.media.sentences import Sentence, edges, sentences

WEIGHTS = {
    "topic": 0.22,
    "sentences": 0.18,
    "rate": 0.14,
    "energy": 0.14,
    "flow": 0.12,
    "questions": 0.08,
    "numbers": 0.05,
    "cuts": 0.04,
    "length": 0.03,
}
WEIGHTS_UNSPOKEN = {"motion": 0.5, "energy": 0.3, "cuts": 0.2}
A_START = 4  # of the candidates that begin with the same sentence, as many are kept
SHORTLIST = 60
ANY = 1e-6  # what a clip is worth that nothing speaks for: more than none
GRID = 1.0  # seconds between the starts of candidates without words


Scorer = Callable[[int, int], dict[str, float]]  # the features of a run of sentences, by its first and last
Chooser = Callable[[Sequence[Candidate], Wish], Sequence[Choice]]


def candidates(material: Material, wish: Wish) -> list[Candidate]:
    """The stretches worth a look, in the order of their starts: whole sentences, or whatever moves where none fit."""
    spoken = sentences(material.words, wish.longest)
    found = _spoken(spoken, material, wish, Spoken(material, spoken, wish))
    return found or _unspoken(material, wish, Unspoken(material))


def choose(found: Sequence[Candidate], wish: Wish) -> list[Choice]:
    """At most `wish.count` candidates that do not overlap, with the largest sum of scores (weighted interval
    scheduling by dynamic programming), in the order of their times."""
    ordered = sorted(found, key=lambda c: (c.end, c.start))
    ends = [candidate.end for candidate in ordered]
    # best[k][i]: the best sum with at most k of the first i candidates
    best = [[0.0] * (len(ordered) + 1) for _ in range(wish.count + 1)]
    for k in range(1, wish.count + 1):
        for i, candidate in enumerate(ordered, 1):
            before = bisect.bisect_right(ends, candidate.start, 0, i - 1)
            best[k][i] = max(best[k][i - 1], best[k - 1][before] + candidate.score + ANY)
    picked: list[Choice] = []
    k, i = wish.count, len(ordered)
    while k and i:
        candidate = ordered[i - 1]
        if best[k][i] == best[k][i - 1]:
            i -= 1
            continue
        picked.append(Choice(candidate.start, candidate.end, candidate.score, features=candidate.features))
        i = bisect.bisect_right(ends, candidate.start, 0, i - 1)
        k -= 1
    return picked[::-1]


def shortlist(found: Sequence[Candidate], size: int = SHORTLIST) -> list[Candidate]:
    """The best of the candidates, for a chooser that reads them: no two of which are mostly the same."""
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: (-c.score, c.start)):
        if all(_shared(candidate, other) < 0.5 for other in kept):
            kept.append(candidate)
        if len(kept) == size:
            break
    return sorted(kept, key=lambda c: c.start)


def settle(choices: Sequence[Choice], material: Material, wish: Wish) -> list[Choice]:
    """The choices as they can be cut: edges moved off words, too short, too long and overlapping ones left out (of two
    that overlap the one with the lower score), at most as many as asked, in the order of their times."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (-c.score, c.start)):
        start, end = edges(material.words, choice.start, choice.end, material.duration)
        if (trimmed := _without_flashes(start, end, material))[1] - trimmed[0] >= wish.shortest:
            start, end = trimmed
        fits = wish.shortest - 0.05 <= end - start <= wish.longest + 0.05
        if fits and len(kept) < wish.count and all(end <= other.start or start >= other.end for other in kept):
            kept.append(msgspec.structs.replace(choice, start=start, end=end))
    return sorted(kept, key=lambda c: c.start)


def _without_flashes(start: float, end: float, material: Material) -> tuple[float, float]:
    """The edges without the moment of another shot that is in the pause before the first word, or after the last."""
    inside = [word for word in material.words if start <= word.start and word.end <= end]
    if not inside:
        return start, end
    first, last, shots = inside[0].start, inside[-1].end, material.shots
    begin = max((cut for cut in shots.cuts if start < cut <= first), default=start)
    # A shot begins at the cut or up to a sample before it.
    finish = min((max(last, cut - shots.step) for cut in shots.cuts if last < cut < end + shots.step), default=end)
    return round(begin, 3), round(min(end, finish), 3)


def _spoken(spoken: Sequence[Sentence], material: Material, wish: Wish, score: Scorer) -> list[Candidate]:
    """The best runs of sentences from each sentence on."""
    found: list[Candidate] = []
    for first in range(len(spoken)):
        runs: list[tuple[Candidate, int]] = []
        for last in range(first, len(spoken)):
            start, end = edges(material.words, spoken[first].start, spoken[last].end, material.duration)
            if end - start > wish.longest:
                break
            if end - start >= wish.shortest:
                runs.append((_scored(start, end, score(first, last), WEIGHTS), last))
        for run, last in sorted(runs, key=lambda pair: -pair[0].score)[:A_START]:
            text = " ".join(sentence.text for sentence in spoken[first : last + 1])
            found.append(msgspec.structs.replace(run, text=text))
    return found


def _unspoken(material: Material, wish: Wish, score: Callable[[float, float], dict[str, float]]) -> list[Candidate]:
    """Stretches of three lengths that begin at each second and at each cut."""
    longest = min(wish.longest, material.duration)
    if longest < wish.shortest:
        return []
    lengths = sorted({wish.shortest, (wish.shortest + longest) / 2, longest})
    grid = [n * GRID for n in range(int((material.duration - wish.shortest) / GRID) + 1)]
    found = []
    for begin in sorted({*grid, *material.shots.cuts}):
        for length in lengths:
            if begin + length <= material.duration:
                start, end = edges(material.words, begin, begin + length, material.duration)
                found.append(_scored(start, end, score(start, end), WEIGHTS_UNSPOKEN))
    return [c for c in found if wish.shortest - 0.05 <= c.end - c.start <= wish.longest]


def _scored(start: float, end: float, values: dict[str, float], weights: dict[str, float]) -> Candidate:
    total = sum(weight * values[name] for name, weight in weights.items())
    return Candidate(start, end, round(total, 4), {name: round(value, 3) for name, value in values.items()})


def _shared(one: Candidate, other: Candidate) -> float:
    common = min(one.end, other.end) - max(one.start, other.start)
    return max(0.0, common) / min(one.end - one.start, other.end - other.start)
