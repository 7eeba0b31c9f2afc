"""How deep pixels lie in a mask: squared Euclidean distances to the nearest pixel outside, exact whole numbers.

OpenCV's roots differ in their last bit with where in memory they happen to be written, so of two equally deep pixels
now one and now the other is the deepest. Their squares, rounded, do not differ.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam_core.windows import box_of


class Depths(NamedTuple):
    """squared: float32 [h, w] of whole numbers, px², in the tight box of a mask, whose corner is (left, top)."""

    left: int
    top: int
    squared: npt.NDArray[np.float32]


def depths_of(mask: npt.NDArray[np.bool_]) -> Depths:
    """The depths in a mask [H, W] bool that is not empty; all beyond the image is outside.

    Exact up to 1,400 px of depth, where float32 still tells neighbouring squares apart.
    """
    left, top, right, bottom = box_of(mask)
    # Beyond the tight box everything is outside, so a frame of one pixel stands for the rest of the plane.
    tight = np.pad(mask[top:bottom, left:right].view(np.uint8), 1)
    depth = cv2.distanceTransform(tight, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return Depths(left, top, np.rint(depth * depth))
