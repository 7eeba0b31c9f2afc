"""Things cut out of pictures, drawings above all, which stand in scenes as whole objects.

A procedural object is whatever its parts are; a cut-out has the outline and the parts of a thing that people have a
name for. Flat colours and dark outlines would give a drawing away, so most are dressed in the scene's own materials:
each colour of the picture becomes a surface, and thin dark lines are painted over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from sam_core.scenes.kernels import Bool, Float64, UInt8
from sam_core.scenes.materials import Material, MaterialShop, vary

SIDE = 256
"""Longest side that a cut-out is kept at, px."""
_LEAST_SIDES = (24, 48)
"""Shorter and longer side of the least cut-out, px."""
_SOLID = (0.15, 0.93)
"""Shares of its box that a cut-out covers: what covers less is a line drawing, what covers more a framed picture."""
_ONE_PIECE = 0.9
"""Least share of what is opaque that the largest connected piece has."""
_LINE = 24
"""A line is darker than what is beside it by more than this, of 255."""


@dataclass(frozen=True, slots=True)
class CutOut:
    """A thing without its surroundings, cut to its box: colour uint8 RGB [h, w, 3], alpha uint8 [h, w]."""

    colour: UInt8
    alpha: UInt8


class CutOuts(Protocol):
    """A collection that scenes take things from; None stands for a picture that is not one solid thing."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> CutOut | None: ...


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


def cut_out(colour: UInt8, alpha: UInt8) -> CutOut | None:
    """The thing on a picture uint8 RGB [H, W, 3] with opacity uint8 [H, W], at most `SIDE` px long.

    None where what is opaque is not one solid thing: specks, several things, line drawings, whole pictures.
    """
    opaque = alpha >= 128
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    sides = sorted((len(rows), len(columns)))
    if sides[0] < _LEAST_SIDES[0] or sides[1] < _LEAST_SIDES[1]:
        return None
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if not _is_solid(opaque[box]):
        return None
    return shrunk(CutOut(np.ascontiguousarray(colour[box]), np.ascontiguousarray(alpha[box])), SIDE)


def _is_solid(opaque: Bool) -> bool:
    if not _SOLID[0] <= opaque.mean() <= _SOLID[1]:
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats(opaque.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return bool(areas.max() >= _ONE_PIECE * areas.sum())


def shrunk(picture: CutOut, side: int) -> CutOut:
    """At most `side` px long; colours of transparent pixels do not bleed into the others."""
    height, width = picture.alpha.shape
    shrink = side / max(height, width)
    if shrink >= 1:
        return picture
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    opacity = picture.alpha.astype(np.float32)
    premultiplied = cv2.resize(picture.colour * opacity[..., None], size, interpolation=cv2.INTER_AREA)
    smaller = cv2.resize(opacity, size, interpolation=cv2.INTER_AREA)
    plain = premultiplied / np.maximum(smaller, 1e-3)[..., None]
    return CutOut(np.rint(plain).clip(0, 255).astype(np.uint8), np.rint(smaller).astype(np.uint8))


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


def warped(picture: UInt8, matrix: Float64, size: tuple[int, int]) -> UInt8:
    """A picture under an affine map [2, 3] of its px, in a window of size (w, h); averaged where it shrinks."""
    scale = float(abs(np.linalg.det(matrix[:, :2]))) ** 0.5
    if scale < 0.5:
        height, width = picture.shape[:2]
        small = (max(1, round(width * scale * 1.2)), max(1, round(height * scale * 1.2)))
        picture = np.asarray(cv2.resize(picture, small, interpolation=cv2.INTER_AREA))
        matrix = matrix @ np.diag([width / small[0], height / small[1], 1.0])
    return np.asarray(cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR))
