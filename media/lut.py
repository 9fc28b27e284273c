"""Colour look-up tables: the `.cube` text that grading tools write, and the built-in colour looks as such tables.

Format: Adobe, "Cube LUT Specification 1.0" (2013). Only three-dimensional tables are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from callsheet.media.errors import MediaError

MAX_TEXT = 1 << 20  # characters: a table of 33 points a side with six decimals takes just below a million
MIN_SIDE, MAX_SIDE = 2, 64  # what ffmpeg's lut3d takes, too
SIDE = 33  # of the built-in looks
MAX_VALUE = 1000.0  # far beyond any table for pictures of 8 bits
REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)  # weights of luma, ITU-R BT.709
KEYWORD = re.compile(r"[A-Z][A-Z0-9_]*\b")
Table = npt.NDArray[np.float32]  # shape (n, 3): red runs fastest, then green, then blue; columns are R, G, B


class Lut(msgspec.Struct, frozen=True):
    """A table of `side`³ colours over the cube from `low` to `high`, in file order."""

    side: int
    table: Table
    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    high: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def mixed(self, share: float) -> Lut:
        """This table at `share` 0..1 of its strength: the rest of each colour stays as it was. Exact, and free."""
        untouched = grid(self.side, self.low, self.high)
        table = (1.0 - share) * untouched + share * self.table
        return msgspec.structs.replace(self, table=table.astype(np.float32))

    def write(self, path: Path) -> None:
        """Write it as a `.cube` file, with values within 0..1."""
        lines = [f"LUT_3D_SIZE {self.side}", f"DOMAIN_MIN {_row(self.low)}", f"DOMAIN_MAX {_row(self.high)}"]
        lines += [_row(row) for row in np.clip(self.table, 0.0, 1.0).tolist()]
        path.write_text("\n".join(lines) + "\n")


def parse_cube(text: str) -> Lut:
    """The table in the text of a `.cube` file. MediaError: bad_lut, with the line that is wrong."""
    if len(text) > MAX_TEXT:
        raise _bad(f"it has more than {MAX_TEXT} characters")
    side, bounds, rows = 0, {"DOMAIN_MIN": (0.0, 0.0, 0.0), "DOMAIN_MAX": (1.0, 1.0, 1.0)}, []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.partition("#")[0].strip()
        word = KEYWORD.match(line)
        if not line or (word and word[0] == "TITLE"):
            continue
        if word is None:
            rows.append(_three(line.split(), number))
            if len(rows) > max(side, 1) ** 3:
                raise _bad(f"line {number}: there are more colours than LUT_3D_SIZE says")
        elif rows:
            raise _bad(f"line {number}: a keyword after the first colour")
        elif word[0] == "LUT_3D_SIZE":
            side = _side(line.split()[1:], number)
        elif word[0] in bounds:
            bounds[word[0]] = _three(line.split()[1:], number)
        elif word[0] == "LUT_3D_INPUT_RANGE":  # how DaVinci Resolve writes the domain: one range for all three
            low, high = _numbers(line.split()[1:], number, 2)
            bounds = {"DOMAIN_MIN": (low,) * 3, "DOMAIN_MAX": (high,) * 3}
        else:
            raise _bad(f"line {number}: {word[0][:40]} is not understood; only three-dimensional tables are taken")
    return _checked(side, rows, bounds["DOMAIN_MIN"], bounds["DOMAIN_MAX"])


def _checked(
    side: int,
    rows: list[tuple[float, float, float]],
    low: tuple[float, float, float],
    high: tuple[float, float, float],
) -> Lut:
    if side == 0:
        raise _bad("it has no LUT_3D_SIZE")
    if len(rows) != side**3:
        raise _bad(f"it has {len(rows)} colours; {side} a side make {side**3}")
    if any(a >= b for a, b in zip(low, high, strict=True)):
        raise _bad("DOMAIN_MIN is not below DOMAIN_MAX")
    return Lut(side, np.array(rows, np.float32), low, high)


def _side(words: list[str], number: int) -> int:
    if len(words) != 1 or not words[0].isascii() or not words[0].isdecimal() or len(words[0]) > 3:
        raise _bad(f"line {number}: LUT_3D_SIZE takes one whole number")
    if not MIN_SIDE <= (side := int(words[0])) <= MAX_SIDE:
        raise _bad(f"line {number}: {side} points a side; {MIN_SIDE} to {MAX_SIDE} are taken")
    return side


def _three(words: list[str], number: int) -> tuple[float, float, float]:
    red, green, blue = _numbers(words, number, 3)
    return red, green, blue


def _numbers(words: list[str], number: int, count: int) -> list[float]:
    try:
        values = [float(word) for word in words if len(word) <= 40]
    except ValueError:
        values = []
    if len(values) != count:
        raise _bad(f"line {number}: {'two' if count == 2 else 'three'} numbers are expected")
    if not all(abs(value) <= MAX_VALUE for value in values):  # false for NaN, too
        raise _bad(f"line {number}: a number is not finite, or beyond {MAX_VALUE:g}")
    return values


def _bad(what: str) -> MediaError:
    return MediaError("bad_lut", f"The LUT cannot be used: {what}.")


def _row(values: tuple[float, ...] | list[float]) -> str:
    return " ".join(f"{value:.6f}" for value in values)


def grid(side: int, low: tuple[float, ...] = (0.0, 0.0, 0.0), high: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Table:
    """The table that changes nothing."""
    steps = [np.linspace(a, b, side, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    blue, green, red = np.meshgrid(steps[2], steps[1], steps[0], indexing="ij")
    return np.stack([red.ravel(), green.ravel(), blue.ravel()], axis=1)


def built_in(name: str) -> Lut:
    """A built-in colour look as a table."""
    return Lut(SIDE, PRESETS[name](grid(SIDE)).clip(0.0, 1.0).astype(np.float32))


def _luma(colour: Table) -> Table:
    return (colour @ REC709)[:, None]


def _curve(colour: Table, strength: float) -> Table:
    """More contrast around the middle, with black and white where they were: a mix with smoothstep."""
    return (1.0 - strength) * colour + strength * colour * colour * (3.0 - 2.0 * colour)


def _saturated(colour: Table, factor: float) -> Table:
    luma = _luma(colour)
    return luma + factor * (colour - luma)


def _teal_orange(colour: Table) -> Table:
    """Shadows towards teal, lights towards orange: complementary colours, between which skin stands out."""
    light = _luma(_curve(colour.clip(0.0, 1.0), 1.0))
    tint = (1.0 - light) * np.array([-0.09, 0.02, 0.09], np.float32) + light * np.array([0.09, 0.01, -0.10], np.float32)
    return _saturated(_curve(colour, 0.35) + tint, 1.1)


def _warm(colour: Table) -> Table:
    return _curve(colour, 0.15) * np.array([1.08, 1.0, 0.86], np.float32) + np.array([0.02, 0.0, -0.01], np.float32)


def _cool(colour: Table) -> Table:
    return _curve(colour, 0.15) * np.array([0.88, 0.99, 1.08], np.float32) + np.array([-0.01, 0.0, 0.03], np.float32)


def _vivid(colour: Table) -> Table:
    return _saturated(_curve(colour, 0.4), 1.45)


def _noir(colour: Table) -> Table:
    """Black and white with deep shadows; red counts for more than in luma, as with the films of that time."""
    grey = colour @ np.array([0.42, 0.46, 0.12], np.float32)
    return np.repeat(_curve(_curve(grey[:, None], 0.9), 0.5) ** 1.12, 3, axis=1)


PRESETS: dict[str, Callable[[Table], Table]] = {
    "teal_orange": _teal_orange,
    "warm": _warm,
    "cool": _cool,
    "vivid": _vivid,
    "noir": _noir,
}
