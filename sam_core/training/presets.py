"""Whole training configurations. Numbers of the paper are from §A; what it leaves open is marked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sam_core.training.losses import LossWeights
from sam_core.training.schedule import LearningRate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights a run ends with.

    Attributes:
        model: preset name of `sam_core.presets`.
        image_size: side of the square training input, px; position tables are resized where the preset differs.
        images: images per step. masks_per_image: at most this many masks of each.
        points: correction rounds after the first prompt. refinements: rounds without new input (0, 1 or 2).
        box_share: share of masks whose first prompt is a noised box instead of a point.
        max_mask_share: masks that cover more of the image are left out.
        grad_clip: largest gradient norm, 0 for none. average: decay of the running average of weights, 0 for none.
        bfloat16: run the model under autocast; losses stay in float32.
    """

    model: str
    image_size: int
    images: int
    masks_per_image: int
    learning_rate: LearningRate
    points: int = 8
    refinements: int = 2
    box_share: float = 0.5
    max_mask_share: float = 0.9
    weight_decay: float = 0.1
    layer_decay: float = 0.8
    drop_path: float = 0.4
    grad_clip: float = 0.0
    average: float = 0.0
    bfloat16: bool = False
    losses: LossWeights = field(default_factory=LossWeights)
    seed: int = 0


def nano() -> tuple[TrainConfig, ...]:
    """`vit_n` on procedural scenes, on a CPU: stages of growing resolution, each from the averaged weights before it.

    Most of what a click means is learned at 128 px for a quarter of the cost. Short rounds, bfloat16, gradient clipping
    and averaging are ours.
    """
    coarse = TrainConfig(
        model="vit_n",
        image_size=128,
        images=16,
        masks_per_image=8,
        learning_rate=LearningRate(base=1.2e-3, warmup=50, iterations=900, decay_at=(900,)),
        points=1,
        refinements=0,
        box_share=0.5,
        weight_decay=0.05,
        layer_decay=1.0,
        drop_path=0.0,
        grad_clip=1.0,
        average=0.99,
        bfloat16=True,
    )
    middle = replace(
        coarse,
        image_size=256,
        images=8,
        learning_rate=LearningRate(base=8e-4, warmup=30, iterations=1450),
        box_share=0.2,
        average=0.995,
        losses=LossWeights(iou=4.0),
        seed=1,
    )
    return coarse, middle
