"""Shares with intervals, where masks of one image are alike and do not count as independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Share:
    """Masks that are good among so many, and the interval that holds the share of all such masks with 95 %."""

    good: int
    masks: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        return self.good / self.masks if self.masks else None


def share(good: NDArray[np.bool_], image: NDArray[np.int64]) -> Share:
    """Wilson's interval for as many independent masks as the spread between images says there are.

    The variance of the share is that of a ratio of image totals (cluster sampling, Cochran 1977, chapter 6); what it
    exceeds the variance of independent masks by is the design effect, and the count is divided by it. When all masks
    agree there is no spread to see, and each image counts as one mask.

    Args:
        good: bool [N], one per mask.
        image: int64 [N], number of each mask's image, from 0.
    """
    masks, hits = len(good), int(good.sum())
    if masks == 0:
        return Share(0, 0, 0.0, 1.0)
    low, high = _wilson(hits / masks, _independent(good, image))
    return Share(hits, masks, low, high)


def _independent(good: NDArray[np.bool_], image: NDArray[np.int64]) -> float:
    """How many independent masks would tell as much."""
    sizes = np.bincount(image).astype(np.float64)
    hits = np.bincount(image, weights=good)
    images, masks = int((sizes > 0).sum()), float(sizes.sum())
    value = hits.sum() / masks
    if images < 2 or value in (0.0, 1.0):
        return float(images)
    variance = images / (images - 1) * ((hits - value * sizes) ** 2).sum() / masks**2
    effect = max(1.0, variance / (value * (1 - value) / masks))
    return float(masks / effect)


def _wilson(value: float, count: float) -> tuple[float, float]:
    """Wilson's score interval, which stays inside 0 to 1."""
    spread = Z95**2 / count
    middle = (value + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * float(np.sqrt(value * (1 - value) / count + spread / (4 * count)))
    return max(0.0, middle - half), min(1.0, middle + half)
