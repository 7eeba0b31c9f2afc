"""Masks that honour their clicks: drawn at the level of logits nearest 0 that has every click on its side.

A click where a border is wrong tells how far it is wrong, and mostly it is so all around. The model moves it near the
click alone, or not at all; the level moves all of it. `tests/benchmarks/LOG.md` has what it is worth.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from sam_core.geometry import points_to_input
from sam_core.masks.batch import MaskBatch
from sam_core.model.prompt_encoder import BACKGROUND, FOREGROUND, Prompts

MARGIN = 0.05
"""By how much a click lies on its side: logits are brought to the image's own pixels in two steps."""
MOST = 6.0
"""How far a level lies from 0: a click where the model sees nothing of the kind would make a mask of everything."""


def honour_clicks(batch: MaskBatch, prompts: Prompts) -> MaskBatch:
    """The same masks with logits less their level, so that above 0 is mask as before; boxes, texts and masks of the
    prompts play no part.

    batch: of N prompts, M masks each. prompts: the N prompts, points float [N, P, 2] xy px in the original frame.
    """
    if prompts.points is None or prompts.labels is None:
        return batch
    device = batch.logits.device
    places = points_to_input(prompts.points.to(device, torch.float32), batch.frame)
    levels = levels_of(batch.logits.float(), places, prompts.labels.to(device), batch.frame.image_size)
    return MaskBatch(batch.logits - levels[..., None, None].to(batch.logits.dtype), batch.iou, batch.frame)


def levels_of(logits: Tensor, points: Tensor, labels: Tensor, image_size: int) -> Tensor:
    """Levels [N, M] of logits [N, M, s, s]: 0 where every click is on its side of 0, or no level within MOST of 0 has
    them all there.

    points: [N, P, 2] xy, px of the model input, a square of `image_size`. labels: [N, P], of which only those of
    foreground and background count.
    """
    grid = points[:, None] * (2 / image_size) - 1
    at, labels = grid_sample(logits, grid, padding_mode="border", align_corners=False)[:, :, 0], labels[:, None]
    below = at.where(labels == FOREGROUND, torch.inf).amin(-1) - MARGIN
    above = at.where(labels == BACKGROUND, -torch.inf).amax(-1) + MARGIN
    levels = torch.zeros_like(below).clamp(above, below)
    return levels.where((above < below) & (levels.abs() <= MOST), 0.0)
