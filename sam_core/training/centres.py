"""Where people click: deep inside a thing.

Points drawn uniformly from a mask, as in the paper, lie anywhere in it and say little of how far it reaches. People
click into the middle (as in Sofiiuk et al. 2021, "Reviving Iterative Training with Mask Guidance"), and a click from
which an object reaches equally far to all sides says which of several nested ones is meant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_core.masks.depth import depths_of

Masks = npt.NDArray[np.bool_]
_CORE = 90
"""Least distance from the border, in % of the largest."""


def draw_centres(masks: Masks, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """For each mask [N, H, W] bool, none empty, a pixel (x, y) drawn from its core: float32 [N, 2]."""
    return np.array([_drawn(mask, rng) for mask in masks], np.float32).reshape(-1, 2)


def _drawn(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    left, top, squared = depths_of(mask)
    least = _CORE**2 * int(squared.max()) / 100**2
    core = np.flatnonzero(squared >= least)
    y, x = divmod(int(core[rng.integers(len(core))]), squared.shape[1])
    return left + x, top + y
