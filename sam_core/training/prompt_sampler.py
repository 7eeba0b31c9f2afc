"""Simulated prompts (paper §A "Training algorithm"): the first point or box, then corrections where the model errs.

Points are drawn uniformly from pixel centres; coordinates are (x, y) in the frame of the given masks. What the paper
leaves open: box noise is Gaussian with standard deviation 10 % of the side, clipped at `cap` px; where prediction and
truth agree everywhere, the next point is drawn from the whole image with its true label. Padding gets no prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam_core.training.draws import Draws

_BOX_NOISE = 0.1  # of a side


@dataclass(frozen=True, slots=True)
class Clicks:
    """One point per mask: xy [N, 2] float32 px, labels [N] int64 (1 foreground, 0 background)."""

    xy: Tensor
    labels: Tensor


def random_pixel(region: Tensor, uniform: Tensor) -> Tensor:
    """A uniformly drawn true pixel of each map.

    Args:
        region: [N, H, W] bool; a map without a true pixel counts as true everywhere.
        uniform: [N] float in [0, 1), which pixel to take.

    Returns:
        [N] int64 flat indices, row-major.
    """
    flat = region.flatten(1)
    flat = flat | ~flat.any(1, keepdim=True)
    count = flat.sum(1)
    rank = (uniform * count).long().clamp(max=count - 1)
    ranks = flat.cumsum(1, dtype=torch.int32)
    return torch.searchsorted(ranks, (rank + 1).int()[:, None])[:, 0]


def clicks_at(index: Tensor, truth: Tensor) -> Clicks:
    """Clicks on flat pixel indices [N] of truth [N, H, W] bool, labelled by it."""
    width = truth.shape[-1]
    labels = truth.flatten(1).gather(1, index[:, None])[:, 0].long()
    return Clicks(torch.stack([index % width, index // width], 1).float(), labels)


def first_points(truth: Tensor, draws: Draws) -> Clicks:
    """Foreground points uniform in each mask; truth [N, H, W] bool."""
    return clicks_at(random_pixel(truth, draws.uniform()), truth)


def correction_points(prediction: Tensor, truth: Tensor, shown: Tensor, draws: Draws) -> Clicks:
    """Points uniform in each error region: foreground on misses, background on false alarms; all [N, H, W] bool.

    shown: what is image. Nobody sees the padding beside it, nor what is predicted there.
    """
    wrong = (prediction ^ truth) & shown
    region = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, shown)
    return clicks_at(random_pixel(region, draws.uniform()), truth)


def boxes_around(truth: Tensor) -> Tensor:
    """[N, 4] float32 xyxy px, edges of the outermost true pixels (end exclusive); truth [N, H, W] bool, none empty."""
    columns, rows = truth.any(1).int(), truth.any(2).int()
    x0, y0 = columns.argmax(1), rows.argmax(1)
    x1 = truth.shape[2] - columns.flip(1).argmax(1)
    y1 = truth.shape[1] - rows.flip(1).argmax(1)
    return torch.stack([x0, y0, x1, y1], 1).float()


def noised_boxes(truth: Tensor, sizes: Tensor, draws: Draws, *, cap: float = 20.0) -> Tensor:
    """Tight boxes, each coordinate moved by Gaussian noise of a tenth of its side, at most `cap` px, inside the image.

    sizes: [N, 2] int64 (height, width) of each mask's image, without padding.
    """
    boxes = boxes_around(truth)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = draws.normal(4) * sides * _BOX_NOISE
    limit = sizes.flip(1).repeat(1, 2).to(boxes.dtype)
    return (boxes + noise.clamp(-cap, cap)).clamp(min=0).minimum(limit)
