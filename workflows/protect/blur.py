"""Regions made unrecognisable: what is left of one is the mean colour of a few cells, which no sharpening undoes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CELLS = 5
"""Colours that remain along the longer side of a region: fewer than it takes to tell two faces apart."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Region:
    """A box to blur: xywh in px of the upright picture, what it shows, and how sure a detector is; None for a table."""

    x: float
    y: float
    w: float
    h: float
    kind: str
    score: float | None = None

    def __str__(self) -> str:
        return f"the region of {self.w:g}x{self.h:g} px at {self.x:g},{self.y:g}"

    def touches(self, height: int, width: int) -> bool:
        """Whether any of it lies in a picture of that size, px."""
        return self.x < width and self.y < height and self.x + self.w > 0 and self.y + self.h > 0


def blur(image: Image, regions: Sequence[Region], *, margin: float) -> Image:
    """A copy of uint8 RGB [H, W, 3] in which every region is blurred.

    A region is blurred whole; around it the blur fades out over `margin` times its sides.
    """
    result = image.copy()
    for region in regions:
        _blur_one(result, region, margin)
    return result


def _blur_one(image: Image, region: Region, margin: float) -> None:
    """In place; nothing happens where the region lies outside of the picture."""
    height, width = image.shape[:2]
    left, right = _clipped(region.x, region.w, margin, width)
    top, bottom = _clipped(region.y, region.h, margin, height)
    if left >= right or top >= bottom:
        return
    part = image[top:bottom, left:right]
    opacity = np.minimum(
        _opacity(np.arange(top, bottom), region.y, region.h, margin)[:, None],
        _opacity(np.arange(left, right), region.x, region.w, margin)[None, :],
    )[:, :, None]
    mixed = part * (1 - opacity) + _few_colours(part) * opacity
    image[top:bottom, left:right] = np.rint(mixed).astype(np.uint8)


def _few_colours(part: Image) -> Image:
    """The picture from means over CELLS cells along its longer side, smoothly joined."""
    height, width = part.shape[:2]
    # At most half as many cells as px, or nothing would be averaged.
    cells = tuple(max(1, min(round(CELLS * side / max(height, width)), side // 2)) for side in (width, height))
    small = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _clipped(start: float, size: float, margin: float, most: int) -> tuple[int, int]:
    """First and last + 1 px of a region with its margin, inside the picture."""
    first, last = np.floor(start - margin * size), np.ceil(start + size * (1 + margin))
    return int(np.clip(first, 0, most)), int(np.clip(last, 0, most))


def _opacity(pixels: NDArray[np.int64], start: float, size: float, margin: float) -> NDArray[np.float64]:
    """1 wherever a pixel touches the region, from there down to 0 at the end of the margin."""
    outside = np.maximum(np.maximum(start - (pixels + 1), pixels - (start + size)), 0)
    return np.asarray(np.clip(1 - outside / max(margin * size, 1e-6), 0, 1))
