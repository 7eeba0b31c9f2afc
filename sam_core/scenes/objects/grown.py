"""Things that grow: plants, trees, fruit."""

import numpy as np

from sam_core.scenes import shapes
from sam_core.scenes.layers import Part
from sam_core.scenes.materials import MaterialShop, vary
from sam_core.scenes.objects.marks import decorations, highlight

Rng = np.random.Generator
_LEAF = np.array([0.24, 0.36, 0.14])
_BARK = np.array([0.3, 0.22, 0.15])


def plant(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Stems with leaves or petals, from a pot or from the ground."""
    green = shop.rough(rng, vary(_LEAF, rng, 0.15))
    leaf = shop.any(rng) if rng.random() < 0.3 else green
    parts: list[Part] = []
    root = np.array([0, 0.45])
    for _ in range(int(rng.integers(3, 11))):
        angle, reach = rng.normal(0, 0.7), rng.uniform(0.4, 1.4)
        tip = root + reach * np.array([np.sin(angle), -np.cos(angle)])
        middle = (root + tip) / 2 + rng.normal(0, 0.1, 2)
        parts.append(Part((np.stack([root, middle, tip]),), green, stroke=0.04))
        blade = np.array([[0, 0], [0.5, 0.16], [1, 0], [0.5, -0.16]]) * rng.uniform(0.3, 0.8)
        heading = np.arctan2(tip[1] - middle[1], tip[0] - middle[0]) + rng.normal(0, 0.4)
        outline = shapes.turned(shapes.smooth(blade), heading) + middle
        parts.append(Part((outline,), leaf, 0.3, rng.uniform(0.6, 1.2)))
    if rng.random() < 0.6:
        pot = np.array([[-0.35, 0.4], [0.35, 0.4], [0.25, 1], [-0.25, 1]]) * (rng.uniform(0.7, 1.5), 1)
        parts += [Part((pot,), shop.any(rng), 0.6), *decorations(rng, shop, pot)]
    return parts


def tree(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Trunk and a crown of overlapping leafy masses in light and shade."""
    bark, leaves = shop.rough(rng, vary(_BARK, rng, 0.15)), shop.rough(rng, vary(_LEAF, rng, 0.15))
    trunk = np.array([[0, 1], [rng.normal(0, 0.08), 0.2], [rng.normal(0, 0.12), -0.4]])
    parts = [Part((shapes.limb(trunk, np.array([0.1, 0.07, 0.04])),), bark, 0.5)]
    edge = rng.uniform(0, 0.03)
    for mass in shapes.blobs(rng, int(rng.integers(2, 8)), 0.4):
        crown = mass * rng.uniform(0.25, 0.5) + (rng.normal(0, 0.3), rng.uniform(-0.8, 0.1))
        parts.append(Part((shapes.ragged(rng, crown, edge),), leaves, 0.7, rng.uniform(0.6, 1.2)))
    return parts


def fruit(rng: Rng, shop: MaterialShop) -> list[Part]:
    """Round things with a shine: fruit, balls, stones, buns."""
    body = shapes.blob(rng, 0.06) * (1, rng.uniform(0.7, 1.1))
    parts = [Part((body,), shop.any(rng), rng.uniform(0.6, 1)), *decorations(rng, shop, body, likely=0.25)]
    if rng.random() < 0.3:
        parts.append(highlight(rng, shop, np.zeros(2), np.ones(2)))
    if rng.random() < 0.25:
        parts.append(Part((np.array([[0, -0.8], [0.08, -1.2]]),), shop.plain(rng), stroke=0.1))
    return parts
