"""A pipeline of your own in one file: counts the words of a text, then writes down the most frequent ones.

.venv/bin/callsheet check examples/word_count.py --input README.md
"""

from collections import Counter
from typing import Annotated

import msgspec

from callsheet import OutputFile, StageContext, StageError, StageOutput, pipeline, stage


class Params(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may ask for; its JSON Schema is on /v1/pipelines."""

    top: Annotated[int, msgspec.Meta(ge=1, le=1000, description="How many words to list.")] = 10


@stage
def count(run: StageContext) -> StageOutput:
    """Count every word, with progress."""
    words: Counter[str] = Counter()
    lines = run.input.path.read_text(errors="replace").splitlines()
    if not lines:
        raise StageError("no_text", "there is no text in this file")
    for n, line in enumerate(lines, 1):
        words.update(line.lower().split())
        run.progress(n / len(lines), f"line {n}")
    return StageOutput(data={"top": words.most_common(run.params.top)}, result={"words": words.total()})


@stage(needs=(count,))
def report(run: StageContext) -> StageOutput:
    """Write the list as an artifact."""
    rows = [f"{number:6} {word}\n" for word, number in run.data("count")["top"]]
    (run.folder / "words.txt").write_text("".join(rows))
    return StageOutput(files=(OutputFile("words.txt", "text/plain", artifact=True),))


word_count = pipeline("word_count", count, report, params=Params, description="Count the words of a text.")
