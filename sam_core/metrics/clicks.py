"""Simulated clicks of the evaluation protocol (paper §7.1, §D.1), by default as deep inside a region as possible.

The first click is the pixel of the mask farthest from its border; each later one the pixel farthest from the border of
the error region. What the paper leaves open:

- Pixels outside the image count as outside the region, so a region cut by the image border is entered away from it.
- Misses and false alarms are two regions even where they touch; the click falls in the one that reaches deeper, on
  misses when both are equally deep.
- Among equally deep pixels the first in row-major order wins.
- Where prediction and truth agree everywhere there is nothing to click: label -1, which prompts ignore.

`RandomClicks` are the paper's other kind (§6, §7.1): uniform in the mask, then uniform in the error region.

Points are (x, y) pixel indices in the frame of the masks, labels 1 foreground, 0 background, -1 none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sam_core.masks.depth import depths_of

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


class Clicker(Protocol):
    """Somebody who clicks."""

    def first(self, truth: Iterable[Masks]) -> Clicks:
        """One click in each mask, bool [H, W]. Raises ValueError for an empty mask."""

    def correction(self, prediction: Masks, truth: Masks) -> Clicks:
        """The next click for each mask, both bool [N, H, W]."""


class DeepestClicks:
    """Clicks as deep inside as possible, the protocol's own."""

    def first(self, truth: Iterable[Masks]) -> Clicks:
        return first_clicks(truth)

    def correction(self, prediction: Masks, truth: Masks) -> Clicks:
        return correction_clicks(prediction, truth)


class RandomClicks:
    """Clicks drawn uniformly from the pixels of the mask, then of the error region; foreground where it was missed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def first(self, truth: Iterable[Masks]) -> Clicks:
        _refuse_empty([bool(mask.any()) for mask in truth])
        return self._draw(truth, truth)

    def correction(self, prediction: Masks, truth: Masks) -> Clicks:
        return self._draw(prediction ^ truth, truth)

    def _draw(self, regions: Iterable[Masks], truth: Iterable[Masks]) -> Clicks:
        places, labels = [], []
        for region, true in zip(regions, truth, strict=True):
            pixels = np.flatnonzero(region)
            pixel = int(pixels[self._rng.integers(len(pixels))]) if len(pixels) else 0
            y, x = divmod(pixel, region.shape[1])
            places.append(Depth(x, y, 0.0))
            labels.append(int(true[y, x]) if len(pixels) else -1)
        return _as_clicks(places, labels)


def deepest_pixel(region: Masks) -> Depth:
    """The pixel of a region [H, W] bool farthest, in exact Euclidean distance, from everything outside the region."""
    if not region.any():
        return Depth(0, 0, 0.0)
    left, top, squared = depths_of(region)
    y, x = divmod(int(squared.argmax()), squared.shape[1])
    return Depth(left + x, top + y, math.sqrt(squared[y, x]))


def first_clicks(truth: Iterable[Masks]) -> Clicks:
    """The protocol's first click in each mask.

    Args:
        truth: bool [H, W] each, none empty.

    Raises:
        ValueError: an empty mask.
    """
    found = [deepest_pixel(mask) for mask in truth]
    _refuse_empty([depth.distance > 0 for depth in found])
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


def _refuse_empty(there: Sequence[bool]) -> None:
    if not all(there):
        empty = list(there).index(False)
        raise ValueError(f"mask {empty} of {len(there)} is empty: no place for a click; leave empty masks out")


def _as_clicks(places: list[Depth], labels: list[int]) -> Clicks:
    xy = np.array([(place.x, place.y) for place in places], np.float32).reshape(-1, 2)
    return Clicks(xy, np.array(labels, np.int64))
