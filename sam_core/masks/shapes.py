"""Shape and overlap of many masks straight from their run lengths: nothing is unpacked to pixels.

Runs go down the columns and begin with background. All masks of a call lie one after the other:

    lengths  int64 [R], px
    first    int64 [N + 1], where each mask's runs begin in `lengths`
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sam_core.machine_code import cached

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_compiled = cached()


def concavity(lengths: Ints, first: Ints, heights: Ints) -> Floats:
    """How much of its convex hull a mask leaves empty: 1 - area / hull area (Segment Anything, figure 6).

    Pixels are squares, so a box has 0, and so has a single pixel.

    Args:
        heights: int64 [N], px, of each mask's image.

    Returns:
        float64 [N], in 0..1; NaN for a mask without pixels.
    """
    areas, hulls = _areas_and_hulls(lengths, first, heights)
    with np.errstate(invalid="ignore"):
        return np.where(hulls > 0, 1 - areas / hulls, np.nan)


def pair_ious(lengths: Ints, first: Ints, pairs: Ints) -> Floats:
    """IoU of pairs of masks that belong to the same image.

    Args:
        pairs: int64 [P, 2], numbers of masks.

    Returns:
        float64 [P], in 0..1; 0 for two empty masks.
    """
    overlap = _overlaps(lengths, first, pairs)
    areas = mask_areas(lengths, first)
    union = areas[pairs[:, 0]] + areas[pairs[:, 1]] - overlap
    ious: Floats = overlap / np.maximum(union, 1)
    return ious


@_compiled
def mask_areas(lengths: Ints, first: Ints) -> Ints:
    """int64 [N]: pixels of each mask."""
    areas = np.zeros(len(first) - 1, np.int64)
    for mask in range(len(areas)):
        areas[mask] = lengths[first[mask] + 1 : first[mask + 1] : 2].sum()
    return areas


def union_areas(lengths: Ints, first: Ints, image: Ints, images: int) -> Ints:
    """Pixels that at least one mask of an image covers.

    Args:
        image: int64 [N], number of each mask's image, below `images`.

    Returns:
        int64 [images], px.
    """
    order = np.argsort(image, kind="stable")
    begins = np.searchsorted(image[order], np.arange(images + 1))
    each = (_mask_runs(lengths, first, order[begin:end]) for begin, end in pairwise(begins))
    return np.fromiter((_union_area(starts, stops) for starts, stops in each), np.int64, images)


def _union_area(starts: Ints, stops: Ints) -> int:
    """Pixels that at least one of these runs covers."""
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], stops[order]
    reached = np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(stops)])[:-1]
    return int(np.maximum(stops - np.maximum(starts, reached), 0).sum())


@_compiled
def _mask_runs(lengths: Ints, first: Ints, masks: Ints) -> tuple[Ints, Ints]:
    """Where each run of pixels of these masks begins and ends, counted by columns: int64 [M] twice."""
    most = (first[masks + 1] - first[masks]).sum() // 2
    starts, stops, count = np.empty(most, np.int64), np.empty(most, np.int64), 0
    for mask in masks:
        position = 0
        for run in range(first[mask], first[mask + 1]):
            if (run - first[mask]) % 2 == 1:
                starts[count], stops[count] = position, position + lengths[run]
                count += 1
            position += lengths[run]
    return starts[:count], stops[:count]


@_compiled
def _areas_and_hulls(lengths: Ints, first: Ints, heights: Ints) -> tuple[Floats, Floats]:
    """Pixels of each mask, and area of the convex hull of its pixels' corners."""
    count = len(heights)
    areas, hulls = np.zeros(count), np.zeros(count)
    for mask in range(count):
        runs = lengths[first[mask] : first[mask + 1]]
        height = heights[mask]
        columns = runs.sum() // height
        tops, bottoms = np.empty((2 * columns, 2), np.int64), np.empty((2 * columns, 2), np.int64)
        above = below = 0
        position, column, top, bottom = 0, -1, height, 0
        for number in range(len(runs)):
            start, stop = position, position + runs[number]
            position = stop
            if number % 2 == 0 or stop == start:
                continue
            areas[mask] += stop - start
            while start < stop:
                if start // height != column:
                    if column >= 0:
                        above = _add(tops, above, column, top, 1)
                        below = _add(bottoms, below, column, bottom, -1)
                    column, top, bottom = start // height, height, 0
                end = min(stop, (column + 1) * height)
                top, bottom = min(top, start - column * height), max(bottom, end - column * height)
                start = end
        if column >= 0:
            above = _add(tops, above, column, top, 1)
            below = _add(bottoms, below, column, bottom, -1)
            hulls[mask] = _under(bottoms, below) - _under(tops, above)
    return areas, hulls


@_compiled
def _add(chain: Ints, count: int, column: int, row: int, side: int) -> int:
    """Add both corners of a column to one side of a hull (1 keeps the smallest rows, -1 the greatest); its new length.

    Points come from left to right; one that no longer lies on the hull is dropped (Andrew's monotone chain).
    """
    for x in (column, column + 1):
        while count >= 2:
            ax, ay = chain[count - 1, 0] - chain[count - 2, 0], chain[count - 1, 1] - chain[count - 2, 1]
            bx, by = x - chain[count - 2, 0], row - chain[count - 2, 1]
            if side * (ax * by - ay * bx) > 0:
                break
            count -= 1
        chain[count, 0], chain[count, 1] = x, row
        count += 1
    return count


@_compiled
def _under(chain: Ints, count: int) -> float:
    """Area between a chain and row 0."""
    area = 0.0
    for point in range(1, count):
        area += 0.5 * (chain[point, 0] - chain[point - 1, 0]) * (chain[point, 1] + chain[point - 1, 1])
    return area


@_compiled
def _overlaps(lengths: Ints, first: Ints, pairs: Ints) -> Ints:
    """Pixels that both masks of each pair have."""
    overlap = np.zeros(len(pairs), np.int64)
    for pair in range(len(pairs)):
        one, other = pairs[pair]
        a, b = first[one], first[other]
        left_a, left_b = lengths[a], lengths[b]
        while True:
            step = min(left_a, left_b)
            if (a - first[one]) % 2 == 1 and (b - first[other]) % 2 == 1:
                overlap[pair] += step
            left_a -= step
            left_b -= step
            if left_a == 0:
                a += 1
                if a == first[one + 1]:
                    break
                left_a = lengths[a]
            if left_b == 0:
                b += 1
                if b == first[other + 1]:
                    break
                left_b = lengths[b]
    return overlap
