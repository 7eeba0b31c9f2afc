"""What cut-outs are made of in a scene.

Flat colours and dark outlines would give a drawing away, so most are dressed in the scene's own materials: each colour
of the picture becomes a surface, and thin dark lines are painted over.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam_core.scenes.cutouts import CutOut
from sam_core.scenes.kernels import Float64, UInt8
from sam_core.scenes.materials import Material, MaterialShop, vary

_LINE = 24
"""A line is darker than what is beside it by more than this, of 255."""


@dataclass(frozen=True, slots=True)
class Dress:
    """What a cut-out is made of.

    Attributes:
        materials: surfaces; labels uint8 [h, w] says which of them a pixel has.
        print: uint8 RGB [h, w, 3] laid over the surfaces, or None.
        relief: 0 flat .. 1 round like a ball.
    """

    materials: tuple[Material, ...]
    labels: UInt8
    print: UInt8 | None
    relief: float

    def share(self, number: int) -> UInt8:
        """Where a material lies: 0 or 255, uint8 [h, w]."""
        return np.where(self.labels == number, np.uint8(255), np.uint8(0))


def dressed(rng: np.random.Generator, picture: CutOut, shop: MaterialShop) -> Dress:
    """The cut-out in materials of the scene, or in its own colours over a textured ground."""
    width = max(3, max(picture.alpha.shape) // 24) | 1
    colour = without_lines(picture, width) if rng.random() < 0.75 else picture.colour
    relief = rng.uniform(0.1, 0.9) if rng.random() < 0.6 else 0.0
    tint = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.08, 3))
    if rng.random() < 0.3:
        ground = shop.rough(rng, tint) if rng.random() < 0.6 else shop.plain(rng, tint)
        return Dress((ground,), np.zeros_like(picture.alpha), _faded(colour, rng.random()), relief)
    labels, colours = segments(rng, colour, int(rng.integers(2, 7)))
    own = rng.random() < 0.6
    materials = (shop.any(rng, vary(each * tint * 0.9, rng, 0.05) if own else None) for each in colours)
    return Dress(tuple(materials), labels, None, relief)


def _faded(colour: UInt8, share: float) -> UInt8:
    """A share of the colour taken away."""
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.addWeighted(colour, 1 - share, cv2.merge([grey, grey, grey]), share, 0))


def without_lines(picture: CutOut, width: int) -> UInt8:
    """The colours uint8 [h, w, 3] with dark lines of up to `width` px painted over by the nearest other colour."""
    opaque = picture.alpha >= 128
    bright = np.where(opaque, _brightest(picture.colour), np.uint8(0))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    line = (cv2.subtract(cv2.morphologyEx(bright, cv2.MORPH_CLOSE, kernel), bright) > _LINE) | ~opaque
    if line.all():
        return picture.colour
    _, nearest = cv2.distanceTransformWithLabels(line.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colours[nearest[~line]] = picture.colour[~line]
    return np.asarray(colours[nearest])


def _brightest(colour: UInt8) -> UInt8:
    red, green, blue = cv2.split(colour)
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def segments(rng: np.random.Generator, colour: UInt8, count: int) -> tuple[UInt8, Float64]:
    """The picture in `count` colours, float64 [count, 3] 0..1, and which of them each pixel has, uint8 [h, w]."""
    height, width = colour.shape[:2]
    few = cv2.resize(colour, (48, 48), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 8, 1.0)
    _, _, centres = cv2.kmeans(few, count, np.empty(0, np.int32), until, 1, cv2.KMEANS_PP_CENTERS)
    # |pixel - centre|^2 without the part that is the same for all centres.
    closeness = colour.reshape(-1, 3).astype(np.float32) @ centres.T - (centres**2).sum(1) / 2
    return closeness.argmax(1).astype(np.uint8).reshape(height, width), np.asarray(centres, np.float64) / 255
