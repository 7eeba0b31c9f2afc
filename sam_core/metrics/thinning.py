"""Thin lines: what the boundary benchmark does to a prediction at every threshold before it matches pixels.

Two-pass parallel thinning (Guo and Hall 1989, as in Lam, Lee and Suen 1992, page 879): a pixel goes when that neither
breaks, shortens nor holes its line, until none goes any more.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Neighbours (row, column) from the east on, against the clock; the k-th is bit k of a neighbourhood's number."""


def thin(mask: Mask) -> Mask:
    """A bool mask [H, W] with lines one pixel wide; pixels beyond the border count as background."""
    passes = [_removable(second=False), _removable(second=True)]
    weights = np.zeros((3, 3), np.float32)
    for bit, (dy, dx) in enumerate(_RING):
        weights[1 + dy, 1 + dx] = 1 << bit
    now = mask.astype(np.uint8)
    while True:
        before = int(np.count_nonzero(now))
        for removable in passes:
            around = cv2.filter2D(now, cv2.CV_16S, weights, borderType=cv2.BORDER_CONSTANT)
            now[removable[around]] = 0
        if int(np.count_nonzero(now)) == before:
            return now.astype(np.bool_)


def _removable(*, second: bool) -> Mask:
    """For each of the 256 neighbourhoods, whether its middle pixel goes in this pass."""
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    following = np.roll(x, -1, 1)
    # One connected group of neighbours: one step from background to mask where corners fill behind sides.
    crossings = np.sum(~x[:, ::2] & (x[:, 1::2] | np.roll(x[:, ::2], -1, 1)), 1)
    # At least two neighbours, so that no end of a line goes, and at most three pairs.
    pairs = np.minimum(np.sum(x[:, ::2] | following[:, ::2], 1), np.sum(x[:, 1::2] | following[:, 1::2], 1))
    first_side = (x[:, 1] | x[:, 2] | ~x[:, 7]) & x[:, 0]
    other_side = (x[:, 5] | x[:, 6] | ~x[:, 3]) & x[:, 4]
    removable: Mask = (crossings == 1) & (pairs >= 2) & (pairs <= 3) & ~(other_side if second else first_side)
    return removable
