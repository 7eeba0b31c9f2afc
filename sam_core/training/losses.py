"""Losses of Segment Anything (paper §A "Losses and training"): focal and dice 20:1, best of three, IoU regression.

What the paper leaves open is decided here:
* focal alpha 0.25 and gamma 2 (the values of RetinaNet, and of the same laboratory's later training code);
* the loss is taken on the low-resolution logits, or on these brought to twice their resolution where objects are small,
  against the area-averaged ground truth, whose values between 0 and 1 say where inside a coarse pixel the border runs;
* every IoU output learns (mean squared error), not only the winner's, so that ranking three masks is trained directly;
* the real IoU is that of the mask at the input's resolution, without padding: what people get. At a quarter of it two
  masks of a small object differ by a pixel or two, and the head learned to prefer the wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.training.targets import Truth

MASKS_AT_ONCE = 8
"""True masks whose predictions are at the input's resolution at any time."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms; the paper's values by default.

    finer: side of the masks that the mask term compares, in sides of the logits: 1 as in the paper, 2 or 4. Ours: of an
    object of 5 px of the input, whose logits are one pixel or two, it sees where in these the border runs.
    chosen: share of the mask term that goes to the output with the highest predicted IoU, the one that people are
    shown, instead of the best one; ours, 0 in the paper. Outputs that compete for objects without parts drift apart,
    and a head that ranks equals is wrong more often than it was.
    """

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    chosen: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    finer: int = 1


@dataclass(frozen=True, slots=True)
class RoundLoss:
    """Losses of one round, each averaged over masks; scalars, float32.

    `total` carries the gradient. `best` [N] int64 is the output back-propagated per mask, `chosen` [N] int64 the one
    with the highest predicted IoU: the mask that goes on to the next round. `real_iou` [N, M] float32, of all outputs.
    """

    total: Tensor
    focal: Tensor
    dice: Tensor
    iou: Tensor
    best: Tensor
    chosen: Tensor
    real_iou: Tensor


def focal_loss(logits: Tensor, target: Tensor, weights: LossWeights) -> Tensor:
    """Sigmoid focal loss averaged over pixels.

    Args:
        logits: [N, M, h, w] float.
        target: [N, 1, h, w] float in [0, 1].
        weights: alpha and gamma are read.

    Returns:
        [N, M] float.
    """
    probability = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    miss = probability * (1 - target) + (1 - probability) * target
    alpha = weights.focal_alpha * target + (1 - weights.focal_alpha) * (1 - target)
    return (alpha * cross_entropy * miss**weights.focal_gamma).mean((-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - dice with +1 smoothing; shapes as in `focal_loss`; returns [N, M]."""
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (probability.sum((-2, -1)) + target.sum((-2, -1)) + 1)


@torch.no_grad()
def iou_at_input(logits: Tensor, masks: Tensor, shown: Tensor) -> Tensor:
    """IoU [N, M] of predicted and true masks at the input's resolution; 0 where both are empty.

    Args:
        logits: [N, M, h, w] float, of lower resolution.
        masks: bool [N, S, S], the truth.
        shown: bool [N, S, S], what is image; padding counts for nothing.
    """
    parts = zip(*(each.split(MASKS_AT_ONCE) for each in (logits, masks, shown)), strict=True)
    return torch.cat([_iou_of_some(some.float(), true[:, None], seen[:, None]) for some, true, seen in parts])


def _iou_of_some(logits: Tensor, truth: Tensor, shown: Tensor) -> Tensor:
    found = (F.interpolate(logits, truth.shape[-2:], mode="bilinear") > 0) & shown
    union = (found | truth).sum((-2, -1))
    return (found & truth).sum((-2, -1)) / union.clamp(min=1)


def round_loss(logits: Tensor, predicted_iou: Tensor, truth: Truth, weights: LossWeights) -> RoundLoss:
    """Loss of one interactive round: the mask term of the best output, shared with the chosen one by `weights`, and the
    IoU term of every output.

    Args:
        logits: [N, M, h, w], M = 3 for a single prompt and 1 otherwise.
        predicted_iou: [N, M].
        truth: the N true masks, averaged to `weights.finer` times the logits' resolution and at the input's.
        weights: weights of the terms.

    Returns:
        The losses, and which outputs were best and chosen.
    """
    logits, predicted_iou, target = logits.float(), predicted_iou.float(), truth.averaged[:, None]
    drawn = logits if weights.finer == 1 else F.interpolate(logits, target.shape[-2:], mode="bilinear")
    focal, dice = focal_loss(drawn, target, weights), dice_loss(drawn, target)
    mask_term = weights.focal * focal + weights.dice * dice
    best = mask_term.argmin(1, keepdim=True)
    chosen = predicted_iou.argmax(1, keepdim=True)
    real_iou = iou_at_input(logits, truth.masks, truth.shown)
    iou_term = F.mse_loss(predicted_iou, real_iou)
    shown = torch.lerp(mask_term.gather(1, best), mask_term.gather(1, chosen), weights.chosen)
    return RoundLoss(
        total=shown.mean() + weights.iou * iou_term,
        focal=focal.gather(1, best).mean().detach(),
        dice=dice.gather(1, best).mean().detach(),
        iou=iou_term.detach(),
        best=best[:, 0],
        chosen=chosen[:, 0],
        real_iou=real_iou,
    )
