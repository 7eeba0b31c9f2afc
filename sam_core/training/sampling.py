"""Which masks of a scene a step trains on, and how much of the scene is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.scenes import SCENE_KINDS, CutOuts, Scene, SceneConfig, render_scene
from sam_core.scenes.masks import SAME_AS_OBJECT
from sam_core.training.centres import draw_centres
from sam_core.training.config import TrainConfig
from sam_core.training.targets import TrainBatch, is_seen


@dataclass(frozen=True, slots=True)
class MaskChoice:
    """How masks are drawn: at most `count`, areas between `min_area` px and `max_share` of the picture.

    A mask's weight is area ** area_power, times `part_weight` for a part of a larger object (with parts drawn as often
    as wholes, a click prefers the patch to the giraffe) and `stuff_weight` for sky, ground and walls (which a model
    finds without looking at the click).
    """

    count: int
    min_area: int = 150
    max_share: float = 0.9
    area_power: float = 0.4
    part_weight: float = 0.35
    stuff_weight: float = 0.15
    padded_share: float = 0.6


def framed(scene: Scene, rng: np.random.Generator, padded_share: float) -> tuple[int, int]:
    """(height, width) of the part of the scene that is kept; the rest becomes padding, as in non-square photographs."""
    size = len(scene.image)
    if rng.random() >= padded_share:
        return size, size
    short = round(size * rng.uniform(0.55, 0.95))
    return (short, size) if rng.random() < 0.75 else (size, short)


def _areas(labels: NDArray[np.int16], count: int) -> NDArray[np.float64]:
    """Area in px of labels 1..count - 1."""
    return np.bincount(labels.ravel(), minlength=count)[1:].astype(float)


def scene_batch(
    scene: Scene, choice: MaskChoice, rng: np.random.Generator, *, number: int = 0, centred: bool = False
) -> TrainBatch:
    """One scene as a batch of one image; may hold no mask where the scene shows nothing large enough."""
    height, width = framed(scene, rng, choice.padded_share)
    inside = np.zeros(scene.objects.shape, bool)
    inside[:height, :width] = True
    objects, parts = (np.where(inside, labels, 0) for labels in (scene.objects, scene.parts))
    whole, part = _areas(objects, len(scene.stuff)), _areas(parts, len(scene.part_object))
    areas, split = np.concatenate([whole, part]), len(whole)
    kinds = np.full(len(areas), choice.part_weight)
    kinds[:split] = np.where(scene.stuff[1 : split + 1], choice.stuff_weight, 1.0)
    weights = areas**choice.area_power * kinds
    weights[(areas < choice.min_area) | (areas > choice.max_share * height * width)] = 0
    weights[split:][part >= SAME_AS_OBJECT * whole[scene.part_object[1:] - 1]] = 0
    count = min(choice.count, int((weights > 0).sum()))
    p = weights / max(weights.sum(), 1e-9)
    chosen = rng.choice(len(areas), count, replace=False, p=p) if count else np.empty(0, np.int64)
    drawn = (objects == i + 1 if i < split else parts == i - split + 1 for i in chosen)
    masks = np.array([mask for mask in drawn if is_seen(mask)], bool).reshape(-1, *inside.shape)
    return TrainBatch(
        images=torch.from_numpy(np.where(inside[..., None], scene.image, 0))[None],
        sizes=torch.tensor([[height, width]]),
        masks=torch.from_numpy(masks),
        image_of=torch.zeros(len(masks), dtype=torch.int64),
        numbers=torch.tensor([number]),
        centres=torch.from_numpy(draw_centres(masks, rng)) if centred else None,
    )


def scene_config(config: TrainConfig, bank_seed: int = 0) -> SceneConfig:
    """Of a training: its share of microscopy, and the other kinds as often among each other as they usually are."""
    plain = SceneConfig(size=config.image_size, bank_seed=bank_seed)
    if config.microscopy is None:
        return plain
    usual = dict(zip(SCENE_KINDS, plain.kind_weights, strict=True))
    rest = (1 - config.microscopy) / (sum(usual.values()) - usual["microscopy"])
    weights = {kind: rest * weight for kind, weight in usual.items()} | {"microscopy": config.microscopy}
    return replace(plain, kind_weights=tuple(weights.values()))


def scene_sample(
    config: TrainConfig,
    rng: np.random.Generator,
    *,
    number: int,
    bank_seed: int = 0,
    cutouts: CutOuts | None = None,
) -> TrainBatch:
    """A scene rendered as training with this configuration wants it, with the masks it admits, perhaps none."""
    scene = render_scene(scene_config(config, bank_seed), rng, cutouts)
    least = config.min_area
    if scene.kind == "microscopy" and config.cell_area is not None:
        least = config.cell_area
    choice = MaskChoice(config.masks_per_image, min_area=least, max_share=config.max_mask_share)
    return scene_batch(scene, choice, rng, number=number, centred=config.centre_share > 0)
