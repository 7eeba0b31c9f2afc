"""Families of objects made of parts.

A family is a function `(rng, shop) -> list[Part]`: parts from back to front, y down, in a frame of its own;
`fitted` brings them to one frame, and `random_object` draws one of any family.
"""

from collections.abc import Callable

import numpy as np

from sam_core.scenes.layers import Part
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.objects.grown import fruit, plant, tree
from sam_core.scenes.objects.living import beast, bird, bust, person
from sam_core.scenes.objects.made import (
    bottle,
    building,
    crate,
    cycle,
    furniture,
    plate,
    screen,
    signpost,
    vehicle,
)  # fmt: skip
from sam_core.scenes.objects.plain import blob_thing, compound, patchwork, rope

Family = Callable[[np.random.Generator, MaterialShop], list[Part]]

ABSTRACT: tuple[Family, ...] = (blob_thing, patchwork, compound, rope, fruit)
OUTDOOR: tuple[Family, ...] = (
    person, person, person, beast, beast, bird, vehicle, vehicle, cycle, tree, plant, building, crate, signpost,
    blob_thing, compound, furniture, rope,
)  # fmt: skip
INDOOR: tuple[Family, ...] = (
    furniture, furniture, crate, screen, bottle, bottle, plant, person, person, bust, beast, plate, fruit,
    compound, patchwork, blob_thing, signpost,
)  # fmt: skip
ALL: tuple[Family, ...] = (
    blob_thing, patchwork, patchwork, compound, person, person, bust, beast, beast, bird, vehicle, cycle, bottle,
    plant, tree, crate, furniture, building, fruit, rope, signpost, plate, screen,
)  # fmt: skip


def fitted(parts: list[Part]) -> list[Part]:
    """The parts scaled and moved so that the longer side spans -1..1 and the feet stand at y = 1."""
    outline = np.concatenate([c for part in parts if not part.mark for c in part.contours])
    low, high = outline.min(0), outline.max(0)
    scale = 2 / max(float((high - low).max()), 1e-6)
    shift = np.array([-(low[0] + high[0]) / 2 * scale, 1 - high[1] * scale])
    return [part.reshaped(tuple(c * scale + shift for c in part.contours), scale=scale) for part in parts]


def random_object(rng: np.random.Generator, shop: MaterialShop, families: tuple[Family, ...] = ALL) -> list[Part]:
    """A fitted object of one of the families."""
    return fitted(families[int(rng.integers(len(families)))](rng, shop))
