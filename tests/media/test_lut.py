"""Look-up tables: what a client sends is understood or refused by name, and what is applied is what was sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callsheet.media import lut
from callsheet.media.errors import MediaError

HEAD = 'TITLE "x"\n# a comment\nLUT_3D_SIZE 2\n\n'
ROWS = "0 0 0\n1 0 0\n0 1 0\n1 1 0\n0 0 1\n1 0 1\n0 1 1\n1 1 1\n"


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = lut.built_in("teal_orange")
    table.write(tmp_path / "x.cube")
    again = lut.parse_cube((tmp_path / "x.cube").read_text())
    assert again.side == 33
    np.testing.assert_allclose(again.table, table.table, atol=1e-6)


def test_the_table_that_changes_nothing_is_the_grid() -> None:
    np.testing.assert_array_equal(lut.parse_cube(HEAD + ROWS).table, lut.grid(2))


def test_a_range_of_its_input_is_its_domain() -> None:
    table = lut.parse_cube(HEAD + "LUT_3D_INPUT_RANGE -0.5 1.5\n" + ROWS)
    assert (table.low, table.high) == ((-0.5,) * 3, (1.5,) * 3)


def test_no_intensity_changes_nothing_and_half_is_half_way() -> None:
    table = lut.built_in("noir")
    np.testing.assert_allclose(table.mixed(0.0).table, lut.grid(33), atol=1e-6)
    np.testing.assert_allclose(table.mixed(0.5).table, (lut.grid(33) + table.table) / 2, atol=1e-6)


@pytest.mark.parametrize("name", lut.PRESETS)
def test_a_built_in_look_leaves_black_dark_and_white_light(name: str) -> None:
    table = lut.built_in(name).table
    assert table.min() >= 0.0
    assert table.max() <= 1.0
    assert table[0].max() < 0.15
    assert table[-1].min() > 0.7


def test_noir_has_no_colour_and_vivid_has_more() -> None:
    assert np.ptp(lut.built_in("noir").table, axis=1).max() == 0
    assert np.ptp(lut.built_in("vivid").table, axis=1).mean() > np.ptp(lut.grid(33), axis=1).mean()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no LUT_3D_SIZE"),
        (ROWS, "more colours"),
        (HEAD + ROWS[:-6], "7 colours; 2 a side make 8"),
        (HEAD + ROWS + "1 1 1\n", "more colours"),
        (HEAD.replace("2", "1") + ROWS, "2 to 64"),
        (HEAD.replace("2", "65") + ROWS, "2 to 64"),
        (HEAD.replace("2", "2" * 5000) + ROWS, "one whole number"),
        (HEAD.replace("2", "٢") + ROWS, "one whole number"),
        (HEAD + ROWS.replace("0 0 0", "0 0 nan"), "not finite"),
        (HEAD + ROWS.replace("0 0 0", "0 0 -inf"), "not finite"),
        (HEAD + ROWS.replace("0 0 0", "0 0 1e39"), "not finite"),
        (HEAD + ROWS.replace("0 0 0", "0 0"), "three numbers"),
        (HEAD + ROWS.replace("0 0 0", "0 0 0 0"), "three numbers"),
        (HEAD + ROWS.replace("0 0 0", "0 0 zero"), "three numbers"),
        ("LUT_1D_SIZE 2\n0 0 0\n1 1 1\n", "three-dimensional"),
        (HEAD + "FILE /etc/passwd\n" + ROWS, "FILE is not understood"),
        (HEAD + "DOMAIN_MIN 1 1 1\n" + ROWS, "DOMAIN_MIN is not below"),
        (HEAD + "LUT_3D_INPUT_RANGE 1\n" + ROWS, "two numbers"),
        (HEAD + ROWS + "LUT_3D_SIZE 3\n", "after the first colour"),
        ("#" * (lut.MAX_TEXT + 1), "more than"),
    ],
)
def test_a_text_that_is_no_table_is_refused_with_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(MediaError, match=why) as caught:
        lut.parse_cube(text)
    assert caught.value.code == "bad_lut"
