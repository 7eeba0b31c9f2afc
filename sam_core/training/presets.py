"""Whole training configurations. Numbers of the paper are from §A; what it leaves open is marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sam_core.presets import did_you_mean
from sam_core.training.config import TrainConfig
from sam_core.training.losses import LossWeights
from sam_core.training.nano_presets import nano, nano_gpu, nano_small, nano_things
from sam_core.training.schedule import LearningRate


def paper_vit_h() -> tuple[TrainConfig, ...]:
    """ViT-H as published: 90k steps of 256 images, learning rate x0.1 at 60,000 and 86,666."""
    rate = LearningRate(base=8e-4, warmup=250, iterations=90_000, decay_at=(60_000, 86_666))
    return (_paper("vit_h", rate, images=256, drop_path=0.4, layer_decay=0.8),)


def paper_vit_l() -> tuple[TrainConfig, ...]:
    """ViT-L: 180k steps of 128 images. Decay steps are ours: at the same shares of the run as ViT-H's."""
    rate = LearningRate(base=4e-4, warmup=250, iterations=180_000, decay_at=(120_000, 173_332))
    return (_paper("vit_l", rate, images=128, drop_path=0.4, layer_decay=0.8),)


def paper_vit_b() -> tuple[TrainConfig, ...]:
    """ViT-B: as ViT-L, with learning rate 8e-4, drop path 0.6 and layer-wise decay 0.6."""
    rate = LearningRate(base=8e-4, warmup=250, iterations=180_000, decay_at=(120_000, 173_332))
    return (_paper("vit_b", rate, images=128, drop_path=0.6, layer_decay=0.6),)


def stage3_generator() -> tuple[TrainConfig, ...]:
    """The model of the fully automatic stage (paper §B): three decoder layers, 4 points, no boxes, large-scale jitter.

    For masks that people made or corrected alone. 177,656 steps; decay steps, as in `paper_vit_l`, are ours.
    """
    rate = LearningRate(base=8e-4, warmup=250, iterations=177_656, decay_at=(118_437, 171_074))
    paper = _paper("vit_h", rate, images=256, drop_path=0.4, layer_decay=0.8)
    # Four points in all: the first and three corrections.
    return (replace(paper, three_layers=True, points=3, box_share=0.0, jitter=(0.1, 2.0)),)


def text() -> tuple[TrainConfig, ...]:
    """Text prompts as published (§D.5): 120k steps of 128 images, large-scale jitter, masks of at least 100^2 px.

    Everything else as in `paper_vit_h`; decay steps are ours, at the same shares of the run.
    """
    rate = LearningRate(base=8e-4, warmup=250, iterations=120_000, decay_at=(80_000, 115_555))
    paper = _paper("vit_h", rate, images=128, drop_path=0.4, layer_decay=0.8)
    return (replace(paper, text=True, jitter=(0.1, 2.0), min_source_area=100**2),)


def fine_tune() -> tuple[TrainConfig, ...]:
    """From a trained model to one kind of image, in minutes: ours. Sizes are those of `vit_n`.

    A low learning rate, as few images make noisy gradients, short rounds, mirror images, mild jitter and an average of
    the last weights; half of the mask loss is that of the mask people are shown, and most photographs are seen through
    windows, as people see them who draw small objects.
    """
    config = TrainConfig(
        model="vit_n",
        pretrained=True,
        image_size=384,
        images=4,
        masks_per_image=8,
        learning_rate=LearningRate(base=1e-4, warmup=10, iterations=300),
        points=1,
        refinements=0,
        box_share=0.2,
        min_area=12,
        window_share=0.6,
        jitter=(0.8, 1.5),
        flip=0.5,
        weight_decay=0.05,
        drop_path=0.0,
        grad_clip=1.0,
        average=0.99,
        losses=LossWeights(iou=4.0, chosen=0.5),
    )
    return (config,)


def stage3_fine_tune() -> tuple[TrainConfig, ...]:
    """The fully automatic stage's model at the size of `fine_tune`: three decoder layers, 4 points, no boxes, whole
    images, as a generator sees them.

    Begins with a two-layer model, whose last layer is copied.
    """
    (config,) = fine_tune()
    return (replace(config, three_layers=True, points=3, box_share=0.0, window_share=0.0, jitter=(0.8, 2.0)),)


def text_nano() -> tuple[TrainConfig, ...]:
    """Text prompts for `vit_n` on small pictures, on a CPU in half an hour: ours.

    Begins with the model in the box at 128 px, as crops of small pictures are embedded by a small CLIP. One correction;
    a quarter of the masks begin with a point or a box, so that one model does both; noise on the embeddings, because a
    small CLIP leaves a gap between what it says of pictures and of texts.
    """
    (config,) = fine_tune()
    config = replace(
        config,
        image_size=128,
        images=16,
        masks_per_image=4,
        learning_rate=LearningRate(base=8e-4, warmup=50, iterations=1500),
        text=True,
        text_noise=0.6,
        text_share=0.75,
        min_area=38,
        min_source_area=64,
        window_share=0.0,
        jitter=(0.8, 1.25),
        flip=0.0,
        layer_decay=1.0,
        losses=LossWeights(iou=4.0),
    )
    return (config,)


def distill() -> tuple[TrainConfig, ...]:
    """The encoder of `vit_t` after that of ViT-H, on images without masks, as MobileSAM was made: mean squared error.

    The mask decoder is the teacher's own and stays as it is. Learning rate and length are ours.
    """
    config = TrainConfig(
        model="vit_t",
        teacher="vit_h",
        aim="distill",
        image_size=1024,
        images=8,
        masks_per_image=1,
        learning_rate=LearningRate(base=1e-3, warmup=250, iterations=90_000),
        weight_decay=0.05,
        layer_decay=1.0,
        drop_path=0.0,
        grad_clip=1.0,
        flip=0.5,
    )
    return (config,)


TRAIN_PRESETS: dict[str, Callable[[], tuple[TrainConfig, ...]]] = {
    f.__name__: f
    for f in (
        paper_vit_h,
        paper_vit_l,
        paper_vit_b,
        stage3_generator,
        text,
        fine_tune,
        stage3_fine_tune,
        nano,
        nano_gpu,
        nano_things,
        nano_small,
        text_nano,
        distill,
    )
}


def train_preset(name: str) -> tuple[TrainConfig, ...]:
    """The stages of a preset, one after the other. Raises ValueError, with the nearest name, when there is none."""
    if name in TRAIN_PRESETS:
        return TRAIN_PRESETS[name]()
    raise ValueError(f"no training preset is called {name!r}; {did_you_mean(name, TRAIN_PRESETS)}")


def _paper(model: str, rate: LearningRate, *, images: int, drop_path: float, layer_decay: float) -> TrainConfig:
    """§A: 1024 px, up to 64 masks of an image, 11 rounds, weight decay 0.1. Mixed precision is ours."""
    return TrainConfig(
        model=model,
        image_size=1024,
        images=images,
        masks_per_image=64,
        learning_rate=rate,
        drop_path=drop_path,
        layer_decay=layer_decay,
        bfloat16=True,
    )
