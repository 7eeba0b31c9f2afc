"""What a training run is told: one stage of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from sam_core.presets import SamConfig, at_image_size, preset, stage_three, with_text
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
        cell_area: `min_area` of these scenes, px of the input; None for the same as everywhere.
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
    cell_area: int | None = None
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


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise ValueError(f"training configuration: {complaint}")
