"""Where the generator looks: overlapping crops of an image and the grid of point prompts in each.

Crop boxes are x0, y0, x1, y1 in px of the original image, end exclusive.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sam_core.recipes import Recipe

CropBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of the image, and the point prompts in it: float64 [P, 2] xy, px, original frame."""

    box: CropBox
    points: NDArray[np.float64]


def crop_plan(size: tuple[int, int], recipe: Recipe) -> tuple[Crop, ...]:
    """The whole image, then its crops layer by layer, for an image of this size (height, width)."""
    crops = []
    for layer in range(recipe.crop_layers + 1):
        grid = point_grid(recipe.points_in_layer(layer))
        for box in layer_boxes(size, layer=layer, overlap=recipe.crop_overlap):
            x0, y0, x1, y1 = box
            crops.append(Crop(box, grid * (x1 - x0, y1 - y0) + (x0, y0)))
    return tuple(crops)


def point_grid(per_side: int) -> NDArray[np.float64]:
    """Centres of per_side x per_side equal cells of the unit square, row by row: float64 [per_side^2, 2] xy."""
    margin = 1 / (2 * per_side)
    ticks = np.linspace(margin, 1 - margin, per_side)
    x, y = np.meshgrid(ticks, ticks)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def layer_boxes(size: tuple[int, int], *, layer: int, overlap: float) -> list[CropBox]:
    """Boxes of the 2^layer x 2^layer crops of one layer, column by column; layer 0 is the image itself.

    Neighbours share `overlap` * short side * 2 / 2^layer pixels, as in the released `generate_crop_boxes`. Where an
    image has fewer pixels than crops, crops without pixels are left out.
    """
    height, width = size
    per_side = 2**layer
    shared = int(overlap * min(size) * (2 / per_side)) if layer else 0
    columns = _spans(width, per_side=per_side, shared=shared)
    rows = _spans(height, per_side=per_side, shared=shared)
    return [(x0, y0, x1, y1) for (x0, x1), (y0, y1) in product(columns, rows)]


def _spans(length: int, *, per_side: int, shared: int) -> list[tuple[int, int]]:
    """Start and end of `per_side` spans that cover `length` px, neighbours sharing `shared` px."""
    span = math.ceil((shared * (per_side - 1) + length) / per_side)
    starts = [(span - shared) * i for i in range(per_side)]
    return [(start, min(start + span, length)) for start in starts if start < length]
