"""Things cut out of pictures, drawings above all, which stand in scenes as whole objects.

A procedural object is whatever its parts are; a cut-out has the outline and the parts of a thing that people have a
name for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from sam_core.scenes.kernels import Bool, Float64, UInt8

SIDE = 256
"""Longest side that a cut-out is kept at, px."""
_LEAST_SIDES = (24, 48)
"""Shorter and longer side of the least cut-out, px."""
_SOLID = (0.15, 0.93)
"""Shares of its box that a cut-out covers: what covers less is a line drawing, what covers more a framed picture."""
_ONE_PIECE = 0.9
"""Least share of what is opaque that the largest connected piece has."""


@dataclass(frozen=True, slots=True)
class CutOut:
    """A thing without its surroundings, cut to its box: colour uint8 RGB [h, w, 3], alpha uint8 [h, w]."""

    colour: UInt8
    alpha: UInt8


class CutOuts(Protocol):
    """A collection that scenes take things from; None stands for a picture that is not one solid thing."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> CutOut | None: ...


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


def warped(picture: UInt8, matrix: Float64, size: tuple[int, int]) -> UInt8:
    """A picture under an affine map [2, 3] of its px, in a window of size (w, h); averaged where it shrinks."""
    scale = float(abs(np.linalg.det(matrix[:, :2]))) ** 0.5
    if scale < 0.5:
        height, width = picture.shape[:2]
        small = (max(1, round(width * scale * 1.2)), max(1, round(height * scale * 1.2)))
        picture = np.asarray(cv2.resize(picture, small, interpolation=cv2.INTER_AREA))
        matrix = matrix @ np.diag([width / small[0], height / small[1], 1.0])
    return np.asarray(cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR))
