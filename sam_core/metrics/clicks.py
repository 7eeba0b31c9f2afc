"""Simulated clicks of the evaluation protocol (paper §7.1, §D.1): deterministic, as deep inside a region as possible.

The first click is the pixel of the mask farthest from its border; each later one the pixel farthest from the border of
the error region. What the paper leaves open:

- Pixels outside the image count as outside the region, so a region cut by the image border is entered away from it.
- Misses and false alarms are two regions even where they touch; the click falls in the one that reaches deeper, on
  misses when both are equally deep.
- Among equally deep pixels the first in row-major order wins.
- Where prediction and truth agree everywhere there is nothing to click: label -1, which prompts ignore.

Points are (x, y) pixel indices in the frame of the masks, labels 1 foreground, 0 background, -1 none.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Masks = npt.NDArray[np.bool_]


class Depth(NamedTuple):
    """The deepest pixel of a region: x, y, and its distance in px to the nearest pixel outside (0 when empty)."""

    x: int
    y: int
    distance: float


class Clicks(NamedTuple):
    """One click per mask: xy [N, 2] float32 px, labels [N] int64."""

    xy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def deepest_pixel(region: Masks) -> Depth:
    """The pixel of a region [H, W] bool farthest, in exact Euclidean distance, from everything outside the region."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return Depth(0, 0, 0.0)
    top, left = int(rows[0]), int(columns[0])
    # Beyond the tight box everything is outside, so a frame of one pixel stands for the rest of the plane.
    tight = np.pad(region[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8), 1)
    distance = cv2.distanceTransform(tight, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = divmod(int(distance.argmax()), tight.shape[1])
    return Depth(left + x - 1, top + y - 1, float(distance[y, x]))


def first_clicks(truth: Masks) -> Clicks:
    """The protocol's first click in each mask.

    Args:
        truth: bool [N, H, W], none empty.

    Raises:
        ValueError: an empty mask.
    """
    found = [deepest_pixel(mask) for mask in truth]
    for index, depth in enumerate(found):
        if depth.distance == 0:
            raise ValueError(f"mask {index} of {len(truth)} is empty: no place for a click; leave empty masks out")
    return _as_clicks(found, [1] * len(found))


def correction_clicks(prediction: Masks, truth: Masks) -> Clicks:
    """Next click for each mask: foreground on misses, background on false alarms; both bool [N, H, W]."""
    places, labels = [], []
    for predicted, true in zip(prediction, truth, strict=True):
        missed, surplus = deepest_pixel(true & ~predicted), deepest_pixel(predicted & ~true)
        place, label = (missed, 1) if missed.distance >= surplus.distance else (surplus, 0)
        places.append(place)
        labels.append(label if place.distance else -1)
    return _as_clicks(places, labels)


def _as_clicks(places: list[Depth], labels: list[int]) -> Clicks:
    xy = np.array([(place.x, place.y) for place in places], np.float32).reshape(-1, 2)
    return Clicks(xy, np.array(labels, np.int64))
