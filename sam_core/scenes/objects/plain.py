"""Things without a name: single shapes, patchworks, compounds, ropes."""

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.objects.marks import decorations

Rng = np.random.Generator


def blob_thing(rng: Rng, shop: MaterialShop) -> list[Part]:
    """A single region of any shape with or without marks."""
    contours = shapes.random_outline(rng)
    relief = rng.uniform(0.3, 1) if rng.random() < 0.5 else 0.0
    return [Part(contours, shop.any(rng), relief), *decorations(rng, shop, contours[0])]


def patchwork(rng: Rng, shop: MaterialShop) -> list[Part]:
    """One outline cut into differently textured pieces: the whole is held together by its outline alone."""
    contours = shapes.random_outline(rng)
    relief = rng.uniform(0.2, 0.9) if rng.random() < 0.6 else 0.0
    parts = [Part(contours, shop.any(rng), relief)]
    for cutter in shapes.blobs(rng, int(rng.integers(1, 6)), 0.4, points=32):
        piece = cutter * rng.uniform(0.3, 0.9) + rng.uniform(-1, 1, 2)
        parts.append(Part((piece,), shop.any(rng), mark=True))
    return parts


def compound(rng: Rng, shop: MaterialShop) -> list[Part]:
    """A few overlapping shapes that belong together: toys, tools, machines nobody has a name for."""
    parts: list[Part] = []
    place = np.zeros(2)
    base = shop.any(rng)
    for _ in range(int(rng.integers(2, 7))):
        size = np.exp(rng.normal(-0.8, 0.35))
        contours = tuple(c * size + place for c in shapes.random_outline(rng))
        parts.append(Part(contours, base if rng.random() < 0.3 else shop.any(rng), rng.uniform(0, 0.9)))
        parts += decorations(rng, shop, contours[0], likely=0.25)
        place = np.clip(place + rng.normal(0, 0.7 * size, 2), -0.8, 0.8)
    return parts


def rope(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Long thin thing: rope, cable, branch, fence post, rail."""
    path = shapes.wander(rng, curl=(0.0, 0.1, 0.4)[int(rng.integers(3))])
    return [Part((path,), shop.any(rng), stroke=float(np.exp(rng.normal(-2.6, 0.5))))]
