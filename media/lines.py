"""Text in lines that fit, also where it is written without spaces, at which alone libass breaks a line by itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

BREAK = "\\N"  # as ASS has it
NEVER_FIRST = frozenset({"Mn", "Mc", "Me", "Pe", "Pf", "Po"})  # marks and closing punctuation, as Unicode names them


def width(text: str) -> int:
    """How wide it is, in letters of Latin: those of Chinese, Japanese and Korean take two, marks on others none."""
    return sum(2 if _is_wide(c) else unicodedata.category(c) not in ("Mn", "Me") for c in text)


def balanced(text: str, line: int, room: int) -> str:
    """The text in lines of about equal width, none much wider than `line` and none wider than `room`."""
    count = max(1, -(-width(text) // line))
    wanted = width(text) / count
    lines: list[str] = [""]
    for word in text.split():
        for number, part in enumerate(_parts(word, room)):
            space = " " if lines[-1] and number == 0 else ""
            wide = width(lines[-1] + space + part)
            if lines[-1] and (wide > room or (wide > wanted + 3 and len(lines) < count)):
                lines.append(part)
            else:
                lines[-1] += space + part
    return BREAK.join(lines)


def laid_out(words: Sequence[tuple[bool, str]], room: int) -> list[tuple[str, str]]:
    """Words (whether a space stands before it, text), each with what is to stand before it: a space, nothing, or a
    break where a line of width `room` is full and has no space; a word that is wider is broken within."""
    made: list[tuple[str, str]] = []
    run = 0  # the width since the last space or break
    for spaced, text in words:
        shown = text if width(text) <= room else balanced(text, room, room)
        before = "" if not made else " " if spaced else BREAK if run + width(text) > room else ""
        run = (0 if before else run) + width(shown.rpartition(BREAK)[2])
        made.append((before, shown))
    return made


def _parts(word: str, room: int) -> list[str]:
    """What of a word may stand on lines of their own."""
    if width(word) <= room and not any(map(_is_wide, word)):
        return [word]
    parts: list[str] = []
    for c in word:
        if parts and unicodedata.category(c) in NEVER_FIRST:
            parts[-1] += c
        else:
            parts.append(c)
    return parts


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")
