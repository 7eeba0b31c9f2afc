"""Windows of a zoomed-in annotator: what is looked at lies inside, and few windows serve many objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_core.windows import LEAST, Box, box_of, by_window, inside, is_window, outline, window_around, windows_over


@st.composite
def places(draw: st.DrawFn) -> tuple[tuple[int, int], Box, int]:
    """An image, a box in it, and a zoom."""
    height, width = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return (height, width), (x0, y0, x1, y1), draw(st.integers(2, 8))


@given(places())
def test_the_box_lies_in_its_window_and_the_window_in_the_image(place: tuple[tuple[int, int], Box, int]) -> None:
    (height, width), (x0, y0, x1, y1), zoom = place
    left, top, right, bottom = window_around((height, width), (x0, y0, x1, y1), zoom=zoom)
    assert 0 <= left <= x0 < x1 <= right <= width
    assert 0 <= top <= y0 < y1 <= bottom <= height
    span, needed = max(right - left, bottom - top), max(LEAST, zoom * max(x1 - x0, y1 - y0))
    if (left, top, right, bottom) != (0, 0, width, height):
        assert span >= needed
        assert span < 2 * needed + 2  # one level deeper would be too small


@given(places())
def test_windows_are_tiles_that_overlap_by_half_and_the_nearest_is_taken(
    place: tuple[tuple[int, int], Box, int],
) -> None:
    size, box, zoom = place
    window = window_around(size, box, zoom=zoom)
    span = max(window[2] - window[0], window[3] - window[1])
    for axis, length in ((0, size[1]), (1, size[0])):
        mine = min(span, length)
        regular = range(0, length - mine + 1, max(1, mine // 2))
        middles = [begin + mine / 2 for begin in regular]
        middle = (box[axis] + box[axis + 2]) / 2
        if middle <= middles[-1]:
            assert abs(window[axis] + mine / 2 - middle) == min(abs(middle - other) for other in middles)
        else:  # near the border: the last regular one, or the one that ends with the image
            assert window[axis] in (regular[-1], length - mine)


@given(places())
def test_every_window_around_something_is_one_of_the_pyramid(place: tuple[tuple[int, int], Box, int]) -> None:
    size, box, zoom = place
    assert is_window(size, window_around(size, box, zoom=zoom))
    assert is_window(size, (0, 0, size[1], size[0]))


@given(places())
def test_windows_over_a_point_are_those_around_its_pixel(place: tuple[tuple[int, int], Box, int]) -> None:
    size, (x0, y0, _, _), _ = place
    found = windows_over(size, (x0 + 0.5, y0 + 0.5))
    widths = [max(right - left, bottom - top) for left, top, right, bottom in found]
    assert found[0] == (0, 0, size[1], size[0])
    assert widths == sorted(widths, reverse=True)
    for level, window in enumerate(found):
        assert is_window(size, window)
        if (span := max(size) >> level) >= LEAST:
            assert window == window_around(size, (x0, y0, x0 + 1, y0 + 1), zoom=span)


def test_the_far_corner_of_an_image_is_a_place_in_it() -> None:
    assert windows_over((600, 800), (800.0, 600.0))[-1] == (750, 550, 800, 600)
    with pytest.raises(ValueError, match=r"\(801, 3\) does not lie in an image of 800x600 px"):
        windows_over((600, 800), (801, 3))


def test_no_other_window_is_one() -> None:
    size = (600, 800)
    for window in ((0, 0, 400, 400), (200, 200, 600, 600), (300, 200, 500, 400), (750, 550, 800, 600)):
        assert is_window(size, window)
    for window in (
        (0, 0, 400, 300),  # a tile is a square
        (1, 0, 401, 400),  # between two tiles
        (-200, 0, 200, 400),
        (600, 0, 1000, 400),
        (0, 0, 25, 25),  # smaller than any
        (400, 0, 0, 400),
        (0, 0, 0, 0),
    ):
        assert not is_window(size, window)


def test_a_pyramid_by_hand() -> None:
    size = (600, 800)
    assert window_around(size, (0, 0, 200, 20)) == (0, 0, 800, 600)  # five times 200 is more than the image
    assert window_around(size, (100, 100, 140, 130)) == (0, 0, 200, 200)  # 5 x 40 = 200
    assert window_around(size, (100, 100, 141, 130)) == (0, 0, 400, 400)
    assert window_around(size, (380, 300, 420, 310)) == (300, 200, 500, 400)
    assert window_around(size, (790, 590, 800, 600)) == (750, 550, 800, 600)
    assert window_around(size, (799, 599, 800, 600)) == (750, 550, 800, 600)  # no window is smaller than 48 px


def test_objects_share_windows() -> None:
    masks = np.zeros((5, 600, 800), np.bool_)
    for mask, (y, x) in zip(masks, [(10, 10), (500, 600), (15, 12), (0, 0), (505, 600)], strict=True):
        mask[y : y + 8, x : x + 9] = True
    masks[3] = True
    seen = by_window((600, 800), map(box_of, masks))
    assert [part.indices.tolist() for part in seen] == [[0, 2], [1, 4], [3]]
    assert seen[2].window == (0, 0, 800, 600)
    for part in seen:
        for index in part.indices:
            assert inside(masks[index], part.window).sum() == masks[index].sum()
    assert by_window((600, 800), []) == []


def test_what_is_refused() -> None:
    for box in ((0, 0, 0, 5), (5, 5, 11, 8), (-1, 0, 3, 3)):
        with pytest.raises(ValueError, match="does not lie in an image of 10x8 px"):
            window_around((8, 10), box)
    with pytest.raises(ValueError, match="at least twice as large"):
        window_around((8, 10), (0, 0, 3, 3), zoom=1)
    with pytest.raises(ValueError, match="an empty mask has no box"):
        box_of(np.zeros((3, 3), np.bool_))


def test_a_box_ends_behind_the_last_pixel_of_its_mask() -> None:
    mask = np.zeros((9, 12), np.bool_)
    mask[3, 5], mask[6, 2:4] = True, True
    assert box_of(mask) == (2, 3, 6, 7)


def test_a_box_touches_whole_pixels() -> None:
    assert outline((3.2, 4.0, 5.0, 6.1)) == (3, 4, 5, 7)
    assert outline((-0.5, 0.0, 0.4, 2.0)) == (-1, 0, 1, 2)
