"""The window that follows faces: where it stands, when it moves, and what it does without anybody to look at."""

from __future__ import annotations

import itertools
import math

import pytest

from callsheet.media.captions import HOOK_TOP
from callsheet.media.faces import Face
from callsheet.media.hook import HIGHER, place
from callsheet.media.pictures import Picture
from callsheet.media.reframe import BINS, Sample, Shape, frame, is_whole, positions, shape_for
from callsheet.media.tripod import CONFIRM, SAFE, SPEED, Target, follow

WIDE = Picture(0, 1280, 720, 30.0)
LENGTH = 405 / 1280


def face(middle: float, width: float = 0.1) -> Face:
    return Face(middle - width / 2, 0.3, width, width * 1.5, 0.9)


def targets(*at: float | None, cuts: tuple[int, ...] = ()) -> list[Target]:
    return [Target(n * 0.2, where, n == 0 or n in cuts) for n, where in enumerate(at)]


def test_a_head_that_sways_does_not_move_the_camera() -> None:
    sway = [0.5 + 0.1 * LENGTH * math.sin(n) for n in range(50)]
    assert len(follow(targets(*sway), LENGTH)) == 1


def test_a_picture_that_has_the_shape_already_is_shown_whole_whatever_is_seen_in_it() -> None:
    assert (is_whole(WIDE, "horizontal"), is_whole(WIDE, "vertical")) == (True, False)
    seen = [Sample(0.2 * n, (face(0.2),), (), n == 0) for n in range(20)]
    assert frame(WIDE, "horizontal", seen) == frame(WIDE, "horizontal", ())
    assert frame(WIDE, "vertical", seen) != frame(WIDE, "vertical", ())


def test_somebody_who_walks_is_followed_slowly() -> None:
    walk = [0.3 + 0.4 * n / 60 for n in range(61)] + [0.7] * 20
    turns = follow(targets(*walk), LENGTH)
    steps = [b.at - a.at for a, b in itertools.pairwise(turns)]
    assert max(abs(step) for step in steps) <= SPEED * LENGTH * 0.2 + 1e-9
    assert abs(turns[-1].at - 0.7) <= SAFE * LENGTH
    assert all(abs(at - turn.at) < LENGTH / 2 for at, turn in zip(walk, turns, strict=True))


def test_a_face_elsewhere_in_one_sample_is_not_turned_to() -> None:
    turns = follow(targets(*[0.2] * 10, 0.9, *[0.2] * 10), LENGTH)
    assert {turn.at for turn in turns} == {0.2}


def test_a_jump_is_made_at_once_when_several_samples_confirm_it() -> None:
    turns = follow(targets(*[0.2] * 10, *[0.9] * 10), LENGTH)
    ways = [(turn.at, turn.glide) for turn in turns]
    assert ways[9 + CONFIRM - 1] == (0.2, True)
    assert ways[9 + CONFIRM] == (0.9, False)


def test_at_a_cut_the_camera_is_there_at_once() -> None:
    turns = follow(targets(*[0.2] * 5, *[0.8] * 5, cuts=(5,)), LENGTH)
    assert [(turn.time, turn.at, turn.glide) for turn in turns] == [(0.0, 0.2, False), (1.0, 0.8, False)]


def test_nobody_seen_for_a_while_leaves_the_camera_where_it_is() -> None:
    turns = follow(targets(0.2, 0.3, None, None, None, 0.3), LENGTH)
    assert turns[2].at == pytest.approx(turns[4].at, abs=0.02)


def samples(*middles: float | None, motion: tuple[float, ...] = ()) -> list[Sample]:
    return [Sample(n * 0.2, (face(m),) if m is not None else (), motion, n == 0) for n, m in enumerate(middles)]


def test_the_face_is_inside_the_window_in_every_sample_of_a_walk() -> None:
    middles = [0.2 + 0.5 * n / 100 for n in range(101)]
    framing = frame(WIDE, "vertical", samples(*middles))
    at = positions(framing, 610, 30.0)
    assert framing.layout == "faces"
    for n, middle in enumerate(middles):
        left = at[n * 6] / WIDE.width
        assert left <= middle - 0.05
        assert middle + 0.05 <= left + framing.width / WIDE.width


def test_two_who_fit_into_the_window_are_both_in_it_and_of_two_who_do_not_the_larger_is() -> None:
    near = [Sample(0.0, (face(0.45), face(0.58)), (), True)]
    far = [Sample(0.0, (face(0.9, 0.15), face(0.1)), (), True)]
    both, one = (frame(WIDE, "vertical", s) for s in (near, far))
    assert both.keys[0].at / 1280 == pytest.approx(0.515 - LENGTH / 2, abs=0.01)
    assert one.keys[0].at + one.width == pytest.approx(1280, abs=2)


def test_without_faces_the_window_lies_where_most_moves() -> None:
    motion = tuple(100.0 if n >= BINS - 4 else 0.0 for n in range(BINS))
    framing = frame(WIDE, "vertical", samples(None, None, motion=motion))
    assert framing.layout == "motion"
    assert framing.keys[0].at + framing.width > 1200


@pytest.mark.parametrize("motion", [(1.0,) * BINS, (0.0,) * BINS, ()])
def test_without_faces_and_with_motion_all_over_or_none_the_picture_is_shown_whole(motion: tuple[float, ...]) -> None:
    framing = frame(WIDE, "vertical", samples(None, None, motion=motion))
    assert (framing.layout, framing.size) == ("blurred", (1080, 1920))


@pytest.mark.parametrize(
    ("picture", "wanted", "size", "axis"),
    [
        ((1920, 1080), "vertical", (1080, 1920), "x"),
        ((1280, 720), "vertical", (1080, 1920), "x"),
        ((640, 360), "vertical", (540, 960), "x"),
        ((320, 180), "vertical", (360, 640), "x"),
        ((1280, 720), "square", (1080, 1080), "x"),
        ((1280, 720), "horizontal", (1920, 1080), "x"),
        ((1080, 1920), "horizontal", (1920, 1080), "y"),
        ((1080, 1920), "square", (1080, 1080), "y"),
    ],
)
def test_a_clip_is_as_large_as_enlarging_threefold_allows(
    picture: tuple[int, int], wanted: str, size: tuple[int, int], axis: str
) -> None:
    framing = frame(Picture(0, *picture, 30.0), shape_for(Picture(0, *picture, 30.0), wanted), samples(0.5, 0.5))
    assert (framing.size, framing.axis) == (size, axis)
    assert framing.width <= picture[0]
    assert framing.height <= picture[1]


@pytest.mark.parametrize(
    ("size", "shape"), [((1920, 1080), "vertical"), ((720, 720), "square"), ((1080, 1920), "vertical")]
)
def test_auto_is_upright_but_for_a_square_picture(size: tuple[int, int], shape: str) -> None:
    assert shape_for(Picture(0, *size, 30.0), "auto") == shape


def test_a_window_that_glides_moves_evenly_and_one_that_jumps_does_so_in_one_frame() -> None:
    at = positions(frame(WIDE, "vertical", samples(*[0.2] * 10, *[0.9] * 10)), 120, 30.0)
    assert len(set(at)) == 2
    moving = positions(frame(WIDE, "vertical", samples(*[0.2 + 0.01 * n for n in range(60)])), 360, 30.0)
    assert max(abs(b - a) for a, b in itertools.pairwise(moving)) <= math.ceil(SPEED * 405 / 30)


def at_height(top: float, middle: float = 0.5) -> Sample:
    return Sample(0.0, (Face(middle - 0.05, top, 0.1, 0.2, 0.9),))


@pytest.mark.parametrize(("top", "where"), [(0.35, HOOK_TOP), (0.16, HIGHER), (0.1, 0.4), (0.45, HOOK_TOP)])
@pytest.mark.parametrize("shape", ["vertical", "square"])
def test_the_hook_is_put_where_it_hides_no_face(shape: Shape, top: float, where: float) -> None:
    seen = [at_height(top)]
    assert place(frame(WIDE, shape, seen), WIDE, seen, 30.0, 0.18 if where == 0.4 else 0.12) == pytest.approx(where)


def test_a_face_that_the_clip_does_not_show_is_in_nobodys_way() -> None:
    framing = frame(WIDE, "vertical", [at_height(0.3, 0.2)])
    assert place(framing, WIDE, [at_height(0.12, 0.8)], 30.0, 0.15) == HOOK_TOP
    assert place(framing, WIDE, [at_height(0.12, 0.2)], 30.0, 0.15) != HOOK_TOP
    upright = Picture(0, 720, 1280, 30.0)
    whole = frame(upright, "vertical", [])
    assert place(whole, upright, [at_height(0.12)], 30.0, 0.15) != HOOK_TOP
    assert place(whole, upright, [], 30.0, 0.15) == HOOK_TOP
