"""Windows: what a model is shown of an image when somebody has zoomed in.

A model sees an image at the size of its input and draws masks at a quarter of that: an object of 16 px in a photograph
of 4,000 px is less than a cell of them. A window is encoded like an image of its own, so the object is as large as it
looks.

Windows are tiles of a pyramid: those of level L are 1 / 2^L of the longest side wide, and half of each lies under the
next one. So a few of them serve many objects, and what was encoded once is found again. All sums are of whole numbers;
`windows.js` of the annotation app makes the same ones. Boxes are x0, y0, x1, y1 in px, end exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
ZOOM = 5
"""A window is 5 to 10 times as large as its object. Smaller ones hide what is around it, and what is enlarged that much
looks blurred; `vit_n` finds nuclei best between 6 and 10."""
LEAST = 48
"""No window is smaller, px: there would be nothing but the interpolation to see."""


@dataclass(frozen=True, slots=True)
class Windowed:
    """What is seen through one window; indices [N] of the objects, ascending."""

    window: Box
    indices: NDArray[np.int64]


def window_around(size: tuple[int, int], box: Box, *, zoom: int = ZOOM) -> Box:
    """The window of a box in an image of (height, width) px; with a zoom of 2 or more the box lies inside.

    The deepest level whose tiles are at least `zoom` times as large as the box, and the tile of it whose middle is
    nearest to the box's. Raises ValueError for a box that is empty or leaves the image, or a zoom below 2.
    """
    height, width = size
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"box {box} does not lie in an image of {width}x{height} px")
    if zoom < 2:
        raise ValueError(f"a window is at least twice as large as what it shows, not {zoom} times")
    longest, needed = max(size), max(LEAST, zoom * max(x1 - x0, y1 - y0))
    level = 0
    while longest >> (level + 1) >= needed:
        level += 1
    span = -(-longest >> level)
    (left, right), (top, bottom) = _nearest(x0, x1, width, span), _nearest(y0, y1, height, span)
    return left, top, right, bottom


def windows_over(size: tuple[int, int], point: tuple[float, float]) -> list[Box]:
    """A window of every level over a point x, y of an image of (height, width) px, the whole image first.

    Of the tiles of a level it is the one whose middle is nearest to the point. Raises ValueError for a point outside.
    """
    height, width = size
    if not (0 <= point[0] <= width and 0 <= point[1] <= height):
        raise ValueError(f"the point {point} does not lie in an image of {width}x{height} px")
    x, y = min(int(point[0]), width - 1), min(int(point[1]), height - 1)
    found = []
    for span in _spans(max(size)):
        (left, right), (top, bottom) = _nearest(x, x + 1, width, span), _nearest(y, y + 1, height, span)
        found.append((left, top, right, bottom))
    return found


def is_window(size: tuple[int, int], window: Box) -> bool:
    """Whether a window is the whole of an image of (height, width) px, or a tile of its pyramid."""
    height, width = size
    x0, y0, x1, y1 = window
    return any(_is_tile(x0, x1, width, span) and _is_tile(y0, y1, height, span) for span in _spans(max(size)))


def by_window(size: tuple[int, int], boxes: Iterable[Box], *, zoom: int = ZOOM) -> list[Windowed]:
    """Boxes in an image of (height, width) px by the window that shows each, in the order of their first box."""
    found: dict[Box, list[int]] = {}
    for index, box in enumerate(boxes):
        found.setdefault(window_around(size, box, zoom=zoom), []).append(index)
    return [Windowed(window, np.array(indices, np.int64)) for window, indices in found.items()]


def outline(box: Sequence[float]) -> Box:
    """The whole pixels that a box x0, y0, x1, y1 in px touches."""
    x0, y0, x1, y1 = box
    return floor(x0), floor(y0), ceil(x1), ceil(y1)


def box_of(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around a mask [H, W]. Raises ValueError for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("an empty mask has no box")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def inside(pixels: NDArray, window: Box) -> NDArray:  # type: ignore[type-arg]  # of any type, in and out
    """The window of an image [H, W, ...] or a mask, a view."""
    x0, y0, x1, y1 = window
    return pixels[y0:y1, x0:x1]


def _spans(longest: int) -> list[int]:
    """How wide the tiles of each level are, px, those of level 0 first."""
    return [-(-longest >> level) for level in range(longest.bit_length()) if level == 0 or longest >> level >= LEAST]


def _is_tile(begin: int, end: int, length: int, span: int) -> bool:
    """Whether begin..end is a tile of one axis."""
    span = min(span, length)
    last = length - span
    return end - begin == span and (begin == last or (0 <= begin < last and begin % _step(span) == 0))


def _step(span: int) -> int:
    """How far the tiles of one axis lie apart: half of each lies under the next one."""
    return max(1, span // 2)


def _nearest(low: int, high: int, length: int, span: int) -> tuple[int, int]:
    """The tile of one axis whose middle is nearest to that of low..high."""
    span = min(span, length)
    half = _step(span)
    place = max(0, (low + high - span + half) // (2 * half))
    begin = min(length - span, place * half)
    return begin, begin + span
