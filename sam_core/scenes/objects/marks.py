"""What lies on a surface and is no object: spots, bands, patches, print, a highlight."""

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import MaterialShop

Rng = np.random.Generator


def decorations(rng: Rng, shop: MaterialShop, contour: Float64, *, likely: float = 0.4) -> list[Part]:
    """With probability `likely`, marks for the region inside the contour [k, 2]."""
    if rng.random() > likely:
        return []
    low, high = contour.min(0), contour.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    kind = rng.random()
    if kind < 0.28:
        return _spots(rng, shop, middle, half)
    if kind < 0.52:
        return _bands(rng, shop, middle, half)
    if kind < 0.72:
        return _patch(rng, shop, middle, half)
    return _writing(rng, shop, middle, half) if kind < 0.92 else [highlight(rng, shop, middle, half)]


def _spots(rng: Rng, shop: MaterialShop, middle: Float64, half: Float64) -> list[Part]:
    outlines = shapes.blobs(rng, int(rng.integers(2, 10)), 0.2, points=20)
    sizes = rng.uniform(0.06, 0.3, (len(outlines), 1, 1)) * half.min()
    places = middle + rng.uniform(-1, 1, (len(outlines), 1, 2)) * half
    return [Part(tuple(outlines * sizes + places), shop.any(rng), mark=True)]


def _bands(rng: Rng, shop: MaterialShop, middle: Float64, half: Float64) -> list[Part]:
    angle = rng.uniform(0, np.pi) if rng.random() < 0.4 else float(rng.integers(2)) * np.pi / 2
    reach, width = 2.5 * half.max(), rng.uniform(0.04, 0.3) * half.min()
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 6))
    offsets = np.arange(count) * width * rng.uniform(1.6, 4) + rng.uniform(-0.8, 0.6) * half.min()
    bands = tuple(shapes.turned(shapes.box(-reach, o, reach, o + width), angle) + middle for o in offsets)
    return [Part(bands, shop.any(rng), mark=True)]


def _patch(rng: Rng, shop: MaterialShop, middle: Float64, half: Float64) -> list[Part]:
    size, place = half * rng.uniform(0.2, 0.6), middle + rng.uniform(-0.5, 0.5, 2) * half
    return [Part(tuple(c * size + place for c in shapes.random_outline(rng)), shop.any(rng), mark=True)]


def _writing(rng: Rng, shop: MaterialShop, middle: Float64, half: Float64) -> list[Part]:
    """One to three lines of letter-like strokes."""
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(2, 7))
    extent = half * rng.uniform(0.3, 0.7)
    corner = middle + rng.uniform(-0.3, 0.3, 2) * half - extent
    cell = extent * 2 / (columns, rows)
    letters = rng.uniform(-0.38, 0.38, (rows * columns, 4, 2))
    slots = np.stack([np.tile(np.arange(columns), rows), np.repeat(np.arange(rows), columns)], 1)[:, None] + 0.5
    return [Part(tuple((letters + slots) * cell + corner), shop.plain(rng), mark=True, stroke=0.15 * float(cell.min()))]


def highlight(rng: Rng, shop: MaterialShop, middle: Float64, half: Float64) -> Part:
    """The reflection of a lamp or window, towards the upper left."""
    place = middle - rng.uniform(0.2, 0.5) * half
    spot = shapes.ellipse(*(half * rng.uniform(0.03, 0.16, 2)).tolist(), tilt=rng.uniform(0, 3))
    return Part((spot + place,), shop.plain(rng, np.full(3, 0.97)), mark=True)
