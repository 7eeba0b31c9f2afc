"""One call, one scene: a picture with the label maps of its objects and parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_core.scenes.camera import photograph
from sam_core.scenes.config import SCENE_KINDS, SceneConfig
from sam_core.scenes.cutouts import CutOuts
from sam_core.scenes.kernels import Bool, Float64, Int16, UInt8, census
from sam_core.scenes.layers import Canvas
from sam_core.scenes.layouts import LAYOUTS
from sam_core.scenes.materials import MaterialShop, random_palette
from sam_core.scenes.stage import Stage
from sam_core.scenes.textures import texture_bank

_GREY_MICROSCOPY = 0.5
"""Least probability that a microscopy picture is grey: most cameras on microscopes are."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is in it. Maps are [S, S], row y, column x; a pixel belongs to what covers most of it.

    Attributes:
        image: uint8 [S, S, 3] RGB.
        objects: int16 [S, S] visible objects and stuff regions, 0 unlabelled, ids 1..n.
        parts: int16 [S, S] visible parts, 0 none, ids 1..m.
        part_object: int16 [m + 1] the object of each part; [0] is 0.
        stuff: bool [n + 1] whether an object is a region of the backdrop (sky, ground, wall); [0] is True.
        object_group: int16 [n + 1] objects of one group (> 0) belong together, such as a heap of fruit; 0 none.
        kind: which of `SCENE_KINDS`.
    """

    image: UInt8
    objects: Int16
    parts: Int16
    part_object: Int16
    stuff: Bool
    object_group: Int16
    kind: str


def render_scene(config: SceneConfig, rng: np.random.Generator, cutouts: CutOuts | None = None) -> Scene:
    """Render one scene; the same config, cut-outs and generator state give the same scene, bit for bit.

    Args:
        config: size and statistics.
        rng: advanced by the call.
        cutouts: things cut out of pictures that stand in the place of most objects.

    Returns:
        The scene, square, config.size px. The first call for a bank_seed builds its textures (about a second).
    """
    bank = texture_bank(config.bank_seed)
    weights = np.array(config.kind_weights) / sum(config.kind_weights)
    kind = SCENE_KINDS[int(rng.choice(len(SCENE_KINDS), p=weights))]
    grounded = kind in ("outdoor", "indoor")
    stage = Stage(
        config=config,
        canvas=Canvas.blank(config.size),
        shop=MaterialShop(bank, random_palette(rng), config.size),
        light=_light(rng),
        shadow=float(rng.choice([0.0, rng.uniform(0.1, 0.75)], p=[0.25, 0.75])),
        shadow_soft=float(np.exp(rng.normal(-2.6, 0.7))),
        grounded=bool(grounded and rng.random() < 0.8),
        cutouts=cutouts,
    )
    LAYOUTS[kind](rng, stage)
    micro = kind == "microscopy"
    grey = bool(rng.random() < (max(config.grey, _GREY_MICROSCOPY) if micro else config.grey))
    image = photograph(rng, stage.canvas.colour, bank, grey=grey, metered=not micro)
    return _labelled(image, stage.canvas, config.smallest_label, kind)


def _light(rng: np.random.Generator) -> Float64:
    """Unit vector to a light that mostly comes from above."""
    light = np.array([rng.normal(0, 0.5), -abs(rng.normal(0.4, 0.4)), rng.uniform(0.5, 1.2)])
    return np.asarray(light / np.linalg.norm(light))


def _labelled(image: UInt8, canvas: Canvas, smallest: int, kind: str) -> Scene:
    """Drop what is hardly visible, and number the rest without gaps."""
    owner = np.array(canvas.part_object, np.int16)
    object_kept, object_ids = _renumbered(census(canvas.objects, len(canvas.stuff)) >= smallest)
    part_seen = census(canvas.parts, len(owner)) >= smallest
    part_kept, part_ids = _renumbered(part_seen & (object_ids[owner] > 0))
    return Scene(
        image=image,
        objects=object_ids[canvas.objects],
        parts=part_ids[canvas.parts],
        part_object=object_ids[owner[part_kept]],
        stuff=np.array(canvas.stuff)[object_kept],
        object_group=np.array(canvas.group, np.int16)[object_kept],
        kind=kind,
    )


def _renumbered(stays: Bool) -> tuple[NDArray[np.intp], Int16]:
    """Old ids that stay (0 always does), and the new id of every old one: 0 for what goes."""
    stays = stays.copy()
    stays[0] = True
    new = np.where(stays, np.cumsum(stays) - 1, 0)
    return np.flatnonzero(stays), new.astype(np.int16)
