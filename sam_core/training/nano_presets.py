"""How the model in the box, `vit_n`, learned what it knows, stage after stage, and what may follow. All ours."""

from __future__ import annotations

from dataclasses import replace

from sam_core.training.config import TrainConfig
from sam_core.training.losses import LossWeights
from sam_core.training.schedule import LearningRate


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
        min_area=38,
        align_start=True,
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
        min_area=150,
        average=0.995,
        losses=LossWeights(iou=4.0),
        seed=1,
    )
    return coarse, middle


def nano_gpu() -> tuple[TrainConfig, ...]:
    """What `vit_n` learned after `nano`, on one GPU in 23 minutes: at 256 px, then at the 384 px it works at.

    Smaller masks than `nano`, as nuclei are small, and more corrections, as people click more than twice: at the end up
    to eight, since a model that was never corrected more than three times makes nothing of a fourth click.
    """
    _, middle = nano()
    larger = replace(
        middle,
        pretrained=True,
        images=80,
        learning_rate=LearningRate(base=1e-3, warmup=60, iterations=693, decay_at=(693,)),
        points=2,
        min_area=80,
        average=0.998,
        seed=10,
    )
    last = replace(
        larger,
        image_size=384,
        images=64,
        learning_rate=LearningRate(base=1e-3, warmup=60, iterations=1468),
        points=3,
        seed=11,
    )
    corrected = replace(
        last,
        learning_rate=LearningRate(base=8e-4, warmup=60, iterations=2138),
        points=8,
        fewer_points=True,
        seed=12,
    )
    return larger, last, corrected


def nano_things() -> tuple[TrainConfig, ...]:
    """What `vit_n` learned after `nano_gpu`, on one GPU in 16 minutes: scenes with things cut out of drawings, clicked
    where people click.

    Half of the first points lie deep inside their mask. Twelve masks of a scene, as scenes cost more than steps; each
    scene was seen four times (`tests.benchmarks.train_vit_n --uses 4`).
    """
    *_, corrected = nano_gpu()
    config = replace(
        corrected,
        masks_per_image=12,
        learning_rate=LearningRate(base=8e-4, warmup=60, iterations=3061),
        points=6,
        centre_share=0.5,
        seed=13,
    )
    return (config,)


def nano_small() -> tuple[TrainConfig, ...]:
    """`vit_n` further, on two cores: small cells, then 512 px. No part of the model in the box.

    No stage before shows a mask of less than 80 px. Two fifths of the scenes are from the microscope, and only those
    show masks of a few pixels, as a click on a photograph hardly ever means a speck.
    """
    (things,) = nano_things()
    cells = replace(
        things,
        images=16,
        learning_rate=LearningRate(base=3e-4, warmup=60, iterations=920),
        points=3,
        refinements=0,
        microscopy=0.4,
        cell_area=9,
        average=0.995,
        losses=LossWeights(iou=4.0, finer=2),
        seed=51,
    )
    larger = replace(
        cells,
        image_size=512,
        masks_per_image=10,
        learning_rate=LearningRate(base=2e-4, warmup=30, iterations=360),
        points=2,
        min_area=140,
        microscopy=0.36,
        cell_area=12,
        average=0.99,
        seed=61,
    )
    return cells, larger
