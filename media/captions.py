"""Captions for short clips: word by word, in several styles, and a title over the first seconds; as an ASS file.

Sizes are shares of the clip's height, so that a style looks the same at any size. Words are shown in groups that can
be taken in at a glance; while a word is spoken it is marked. A group stays until the next one, if that comes soon.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec
import pysubs2

from callsheet.media.lines import BREAK, balanced, laid_out, width
from callsheet.media.transcript import Word, ends_sentence

FONT = "Open Sans ExtraBold"
GROUP_PAUSE = 0.6  # seconds without a word that end a group
HOLD = 0.5  # seconds a group stays after its last word, at most
HOOK_SECONDS = 3.5
HOOK_LINE = 24  # characters
HOOK_SIZE = 0.036
HOOK_TOP = 0.11  # of the clip's height, where nothing speaks against it
LINE_HEIGHT = 1.36  # of the letters' own size, with this font: what ASS calls a font's size is the height of its line
LETTER, CAPITAL = 0.6, 0.65  # widths, of the same: with this font, of usual text and a little more
MARGIN, HOOK_MARGIN = 1 / 14, 1 / 12  # of the width, to either side
SHORTEST_MS = 30

Name = Literal["highlight", "karaoke", "pop", "boxed", "classic"]


class Style(msgspec.Struct, frozen=True):
    """How captions look: words in a group, characters in a line, size and height above the bottom (shares of the
    height), colours as RRGGBB, whether the group stands in a box, and how the word being spoken is marked."""

    words: int
    line: int
    size: float
    bottom: float
    colour: str = "FFFFFF"
    marked: str = "FFD83D"
    outline: float = 0.004
    box: bool = False
    upper: bool = False
    mark: Literal["colour", "fill", "none"] = "colour"


STYLES: dict[Name, Style] = {
    "highlight": Style(words=4, line=18, size=0.048, bottom=0.24),
    "karaoke": Style(words=6, line=22, size=0.043, bottom=0.20, mark="fill", marked="3DE0FF"),
    "pop": Style(words=1, line=14, size=0.062, bottom=0.28, upper=True, mark="none"),
    "boxed": Style(words=5, line=22, size=0.041, bottom=0.20, box=True, outline=0.008),
    "classic": Style(words=12, line=34, size=0.034, bottom=0.10, mark="none", outline=0.003),
}


class Group(msgspec.Struct, frozen=True):
    """Words that are shown together, from the first one's start to `end` (seconds)."""

    words: tuple[Word, ...]
    end: float


def overlay(
    words: Sequence[Word],
    style: Name | None,
    hook: str,
    size: tuple[int, int],
    seconds: float,
    *,
    hook_top: float = HOOK_TOP,
) -> str:
    """The ASS file: captions of these words (times of the clip), if a style is given, and the hook, if there is one,
    `hook_top` of the height from the top."""
    file = pysubs2.SSAFile()
    file.info |= {"PlayResX": str(size[0]), "PlayResY": str(size[1]), "WrapStyle": "0", "ScaledBorderAndShadow": "yes"}
    del file.styles["Default"]
    if style is not None:
        file.styles["Caption"] = _style(STYLES[style], size)
        for group in groups(words, STYLES[style], seconds):
            file.events += _events(group, STYLES[style], _room(STYLES[style], size))
    if hook:
        file.styles["Hook"] = _hook_style(size, hook_top)
        end = _ms(min(HOOK_SECONDS, seconds))
        file.append(pysubs2.SSAEvent(0, end, _hook_lines(hook, size), style="Hook", layer=1))
    return file.to_string("ass")


def hook_height(hook: str, size: tuple[int, int]) -> float:
    """How high the hook is, as a share of the clip's height."""
    lines = _hook_lines(hook, size).count(BREAK) + 1
    return lines * LINE_HEIGHT * HOOK_SIZE * _base(size) / size[1]


def _hook_lines(hook: str, size: tuple[int, int]) -> str:
    return balanced(plain(hook), HOOK_LINE, _letters(HOOK_SIZE, LETTER, HOOK_MARGIN, size))


def _room(style: Style, size: tuple[int, int]) -> int:
    return _letters(style.size, CAPITAL if style.upper else LETTER, MARGIN, size)


def _letters(height: float, letter: float, margin: float, size: tuple[int, int]) -> int:
    """How many letters a line holds."""
    return int(size[0] * (1 - 2 * margin) / (height * _base(size) / LINE_HEIGHT * letter))


def groups(words: Sequence[Word], style: Style, seconds: float) -> list[Group]:
    """The words in groups: a new one after a sentence, at a pause, and when one is full."""
    parts: list[list[Word]] = []
    for word in words:
        if not parts or _full(parts[-1], word, style):
            parts.append([])
        parts[-1].append(word)
    made = []
    for part, following in itertools.zip_longest(parts, parts[1:]):
        latest = min(seconds, following[0].start if following else seconds)
        made.append(Group(tuple(part), max(min(part[-1].end + HOLD, latest), part[0].start + SHORTEST_MS / 1000)))
    return made


def _full(group: Sequence[Word], word: Word, style: Style) -> bool:
    if len(group) >= style.words or word.start - group[-1].end >= GROUP_PAUSE or ends_sentence(group[-1]):
        return True
    return sum(width(w.punctuated_word) + w.space_before for w in (*group, word)) > 2 * style.line


def _events(group: Group, style: Style, room: int) -> Iterator[pysubs2.SSAEvent]:
    match style.mark:
        case "none":
            yield _event(group.words[0].start, group.end, _joined(group.words, style, room, lambda _, text: text))
        case "fill":
            yield _event(group.words[0].start, group.end, _filled(group, style, room))
        case "colour":
            for number, word in enumerate(group.words):
                end = group.words[number + 1].start if number + 1 < len(group.words) else group.end
                if end - word.start >= SHORTEST_MS / 1000:
                    yield _event(word.start, end, _joined(group.words, style, room, _marker(number, style)))


def _marker(marked: int, style: Style) -> Callable[[int, str], str]:
    on, off = (f"{{\\c&H{_bgr(colour)}&}}" for colour in (style.marked, style.colour))
    return lambda number, text: f"{on}{text}{off}" if number == marked else text


def _filled(group: Group, style: Style, room: int) -> str:
    """Each word fills with colour while it is spoken: `\\kf` in hundredths of a second, pauses as empty syllables."""
    begin = group.words[0].start
    pieces, told = [], 0
    for word, (space, shown) in zip(group.words, _laid_out(group.words, style, room), strict=True):
        first, last = round((word.start - begin) * 100), round((word.end - begin) * 100)
        pieces.append(f"{{\\k{max(0, first - told)}}}{space}{{\\kf{max(0, last - max(first, told))}}}{shown}")
        told = max(last, told)
    return "".join(pieces)


def _joined(words: Sequence[Word], style: Style, room: int, shown: Callable[[int, str], str]) -> str:
    return "".join(space + shown(number, text) for number, (space, text) in enumerate(_laid_out(words, style, room)))


def _laid_out(words: Sequence[Word], style: Style, room: int) -> list[tuple[str, str]]:
    return laid_out([(word.space_before, _shown(word, style)) for word in words], room)


def _shown(word: Word, style: Style) -> str:
    text = plain(word.punctuated_word)
    return text.upper() if style.upper else text


def plain(text: str) -> str:
    """A text that ASS takes for nothing but text: braces and backslashes would be commands."""
    return " ".join(text.replace("{", "(").replace("}", ")").replace("\\", "/").split())


def _style(style: Style, size: tuple[int, int]) -> pysubs2.SSAStyle:
    wide, high = size
    first = style.marked if style.mark == "fill" else style.colour  # karaoke goes from secondary to primary
    return pysubs2.SSAStyle(
        fontname=FONT,
        fontsize=round(style.size * _base(size), 1),
        primarycolor=_colour(first),
        secondarycolor=_colour(style.colour),
        outlinecolor=pysubs2.Color(16, 16, 16, 40 if style.box else 0),
        backcolor=pysubs2.Color(0, 0, 0, 120),
        borderstyle=3 if style.box else 1,
        outline=round(style.outline * _base(size), 2),
        shadow=0.0,
        alignment=pysubs2.Alignment.BOTTOM_CENTER,
        marginl=int(wide * MARGIN),
        marginr=int(wide * MARGIN),
        marginv=round(style.bottom * high),
    )


def _hook_style(size: tuple[int, int], top: float) -> pysubs2.SSAStyle:
    wide, high = size
    return pysubs2.SSAStyle(
        fontname=FONT,
        fontsize=round(HOOK_SIZE * _base(size), 1),
        primarycolor=pysubs2.Color(17, 17, 17),
        outlinecolor=pysubs2.Color(255, 255, 255, 10),
        borderstyle=3,
        outline=round(0.009 * _base(size), 2),
        shadow=0.0,
        alignment=pysubs2.Alignment.TOP_CENTER,
        marginl=int(wide * HOOK_MARGIN),
        marginr=int(wide * HOOK_MARGIN),
        marginv=round(top * high),
    )


def _base(size: tuple[int, int]) -> float:
    """What sizes are shares of: the height, but no more than an upright clip of that width would have."""
    return min(size[1] * 1.25, size[0] * 16 / 9)


def _event(start: float, end: float, text: str) -> pysubs2.SSAEvent:
    return pysubs2.SSAEvent(_ms(start), max(_ms(end), _ms(start) + SHORTEST_MS), text, style="Caption")


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _colour(rgb: str) -> pysubs2.Color:
    return pysubs2.Color(*bytes.fromhex(rgb))


def _bgr(rgb: str) -> str:
    return rgb[4:] + rgb[2:4] + rgb[:2]
