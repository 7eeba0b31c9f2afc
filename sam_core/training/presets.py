"""Whole training configurations. Numbers of the paper are from §A; what it leaves open is marked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from sam_core.presets import SamConfig, at_image_size, did_you_mean, preset, stage_three, with_text
from sam_core.training.losses import LossWeights
from sam_core.training.schedule import LearningRate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights a run ends with, beside its data.

    Attributes:
        model: preset name of `sam_core.presets`.
        learning_rate: base rate, warm-up, steps and decay; with it how long the run is.
        image_size: side of the square training input, px; position tables are resized where the preset differs.
        images: images per step, over all workers. masks_per_image: at most this many masks of each.
        aim: "segment" is the paper's training; "distill" fits the encoder's embedding to that of `teacher`, which is a
            model by name or path, and needs no masks.
        pretrained: begin with the model's own checkpoint unless another is given.
        three_layers: give the mask decoder three two-way layers, as in the fully automatic stage.
        points: correction rounds after the first prompt. fewer_points: their number is drawn for every step, from 1 to
            `points`, so that the first prompt keeps a larger share of what is learned. refinements: rounds without new
            input (0, 1 or 2).
        box_share: share of masks whose first prompt is a noised box instead of a point.
        centre_share: share of first points that lie deep inside their mask, as people click (`centres`); the others
            are uniform in it, as in the paper.
        text: the first prompt is the CLIP embedding of the mask's crop, in the place of point or box.
        clip_name, clip_sha256, text_width: the CLIP that belongs to `text`, and the size of its embeddings; said by
            the command, not by a preset.
        text_noise: length of the noise added to those embeddings (`interactive.text_prompts`).
        text_share: share of masks whose first prompt it is; the others keep a model used to points and boxes alone.
        max_mask_share: masks that cover more of their image are left out. min_area: smaller ones too, px of the input,
            as is, whatever its area, what has no pixel at the size that models predict (`targets.is_seen`).
        min_source_area: masks of fewer px of their own image are left out too; for `text` alone.
        microscopy: share of procedural scenes that show cells through a microscope; None as `SceneConfig` has them.
        jitter: bounds of the random factor on the image's size (large-scale jitter); (1, 1) for none.
        window_share: of photographs that are seen through the window of one of their masks (`sam_core.windows`), as by
            annotators who zoom in; it is what jitter and the shares of the image refer to then.
        flip: probability of a mirror image.
        freeze_encoder: train the prompt encoder and mask decoder alone.
        align_start: begin with equal query and key projections in the decoder; for models that start from nothing.
        layer_decay: factor on the learning rate from each encoder block to the one before it, 1 for none.
        drop_path: rate of the encoder's last block, falling evenly to 0 at the first.
        grad_clip: largest gradient norm, 0 for none. average: decay of the running average of weights, 0 for none.
        bfloat16: run the model under autocast; losses stay in float32.
        losses: weights of the loss's terms. seed: of samples, prompts and new weights.
    """

    model: str
    image_size: int
    images: int
    masks_per_image: int
    learning_rate: LearningRate
    aim: Literal["segment", "distill"] = "segment"
    teacher: str = ""
    pretrained: bool = False
    three_layers: bool = False
    points: int = 8
    fewer_points: bool = False
    refinements: int = 2
    box_share: float = 0.5
    centre_share: float = 0.0
    text: bool = False
    clip_name: str = ""
    clip_sha256: str = ""
    text_width: int = 0
    text_noise: float = 0.0
    text_share: float = 1.0
    max_mask_share: float = 0.9
    min_area: int = 1
    min_source_area: int = 1
    microscopy: float | None = None
    jitter: tuple[float, float] = (1.0, 1.0)
    window_share: float = 0.0
    flip: float = 0.0
    freeze_encoder: bool = False
    align_start: bool = False
    weight_decay: float = 0.1
    layer_decay: float = 0.8
    drop_path: float = 0.4
    grad_clip: float = 0.0
    average: float = 0.0
    bfloat16: bool = False
    losses: LossWeights = field(default_factory=LossWeights)
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.jitter
        _require(min(self.images, self.masks_per_image, self.image_size) > 0, "images, masks and size are positive")
        _require(self.learning_rate.iterations > 0, "a run has at least one iteration")
        _require(0 < self.learning_rate.base < math.inf, "the learning rate is a positive number")
        _require(0 < low <= high, "jitter is a range of positive factors, the smaller one first")
        _require(self.points >= 0 and self.refinements in (0, 1, 2), "points are 0 or more, refinements 0, 1 or 2")
        _require(self.points > 0 or not self.fewer_points, "fewer_points are drawn from 1 to points")
        shares = (self.box_share, self.centre_share, self.max_mask_share, self.flip, self.text_share, self.window_share)
        _require(all(0 <= p <= 1 for p in (*shares, self.losses.chosen)), "shares lie in 0..1")
        _require(0 <= (self.microscopy or 0) < 1, "of procedural scenes some are no microscopy")
        _require(self.losses.finer in (1, 2, 4), "the mask term sees masks 1, 2 or 4 times as large as logits")
        _require(0 <= self.drop_path < 1 and 0 <= self.average < 1, "drop_path and average lie in [0, 1)")
        _require((self.aim == "distill") == bool(self.teacher), "distillation, and nothing else, has a teacher")
        _require(not self.text or self.aim == "segment", "text prompts are trained on masks")
        of_masks = {"centre_share": self.centre_share, "window_share": self.window_share, "chosen": self.losses.chosen}
        for name, share in of_masks.items():
            _require(not share or self.aim == "segment", f"{name} is of masks; distillation has none")
        _require(bool(self.text_width) <= self.text and self.text_noise >= 0, "text_width and text_noise go with text")

    @property
    def sam(self) -> SamConfig:
        """The model that this configuration trains. Raises ValueError for an unknown name or a size that cannot be."""
        base = preset(self.model)
        sized = at_image_size(stage_three(base) if self.three_layers else base, self.image_size)
        return with_text(sized, self.text_width)

    @property
    def rounds(self) -> float:
        """Rounds per mask, the mean where their number is drawn: 11 in the paper."""
        points = (1 + self.points) / 2 if self.fewer_points else self.points
        return 1 + points + self.refinements


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
    """`vit_n` further, on one core: objects of a few pixels, in scenes half of which are from the microscope.

    No stage before shows a mask of less than 80 px. An experiment, no part of the model in the box: with so few scenes
    a step small nuclei are found and photographs suffer.
    """
    (things,) = nano_things()
    config = replace(
        things,
        images=4,
        masks_per_image=16,
        learning_rate=LearningRate(base=2e-4, warmup=40, iterations=600),
        points=4,
        min_area=9,
        microscopy=0.5,
        average=0.995,
        bfloat16=False,
        losses=LossWeights(iou=4.0, finer=2),
        seed=31,
    )
    return (config,)


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


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise ValueError(f"training configuration: {complaint}")
