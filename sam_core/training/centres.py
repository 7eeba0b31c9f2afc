"""Where people click: deep inside a thing.

Points drawn uniformly from a mask, as in the paper, lie anywhere in it and say little of how far it reaches. People
click into the middle (as in Sofiiuk et al. 2021, "Reviving Iterative Training with Mask Guidance"), and a click from
which an object reaches equally far to all sides says which of several nested ones is meant.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Masks = npt.NDArray[np.bool_]
_CORE = 0.9
"""Least distance from the border, as a share of the largest."""


def draw_centres(masks: Masks, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """For each mask [N, H, W] bool, none empty, a pixel (x, y) drawn from its core: float32 [N, 2]."""
    return np.array([_drawn(mask, rng) for mask in masks], np.float32).reshape(-1, 2)


def _drawn(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # A frame of one pixel around the tight box stands for all that is outside, the image's own border too.
    tight = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].view(np.uint8), 1)
    depth = cv2.distanceTransform(tight, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    core = np.flatnonzero(depth >= _CORE * depth.max())
    y, x = divmod(int(core[rng.integers(len(core))]), tight.shape[1])
    return int(columns[0]) + x - 1, int(rows[0]) + y - 1
