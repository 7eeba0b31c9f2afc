"""Masks that honour their clicks: what is clicked at lies in the mask, what is clicked away does not.

A click where a border is wrong tells how far it is wrong, and mostly it is so all around, while the model moves it near
the click alone, or not at all. So logits are moved by half of what would bring every click to its side, all around, and
then around each click that is still on the wrong side, in the order in which they were given. People click in the
middle of what is wrong: as far as a click lies from its side, so far does the error go beyond it.
`tests/benchmarks/LOG.md` has what that is worth.
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
SHARE = 0.5
"""Of the level, that all of the mask is moved by."""
BEYOND = 1.5
"""A click's logit is brought so far, as a part of how far it lay on the wrong side of 0."""
WIDTH = 0.7
"""Standard deviation of what a click moves around it, as a part of its distance from its side."""
NEAR, FAR = 1, 1 / 24
"""Least such distance in cells of the logits, and largest as a part of their side."""


def honour_clicks(batch: MaskBatch, prompts: Prompts) -> MaskBatch:
    """The same masks with logits moved as above, so that above 0 is mask as before; boxes, texts and masks of the
    prompts play no part.

    batch: of N prompts, M masks each. prompts: the N prompts, points float [N, P, 2] xy px in the original frame.
    """
    if prompts.points is None or prompts.labels is None:
        return batch
    device = batch.logits.device
    places = points_to_input(prompts.points.to(device, torch.float32), batch.frame)
    moved = moved_by_clicks(batch.logits.float(), places, prompts.labels.to(device), batch.frame.image_size)
    return MaskBatch(moved.to(batch.logits.dtype), batch.iou, batch.frame)


def moved_by_clicks(logits: Tensor, points: Tensor, labels: Tensor, image_size: int) -> Tensor:
    """Logits [N, M, s, s] moved so that clicks lie on their sides of 0, the last one always.

    points: [N, P, 2] xy, px of the model input, a square of `image_size`. labels: [N, P], of which only those of
    foreground and background count.
    """
    moved = logits - SHARE * levels_of(logits, points, labels, image_size)[..., None, None]
    for click in range(points.shape[1]):
        _move_around(moved, points[:, click], labels[:, click], image_size)
    return moved


def levels_of(logits: Tensor, points: Tensor, labels: Tensor, image_size: int) -> Tensor:
    """Levels [N, M] of logits [N, M, s, s]: the nearest to 0 that have every click on its side; 0 where none within
    MOST of 0 has. Points and labels as for `moved_by_clicks`."""
    at, labels = _values_at(logits, points, image_size), labels[:, None]
    below = at.where(labels == FOREGROUND, torch.inf).amin(-1) - MARGIN
    above = at.where(labels == BACKGROUND, -torch.inf).amax(-1) + MARGIN
    levels = torch.zeros_like(below).clamp(above, below)
    return levels.where((above < below) & (levels.abs() <= MOST), 0.0)


def _move_around(logits: Tensor, points: Tensor, labels: Tensor, image_size: int) -> None:
    """Bring one click [N, 2] of each prompt to its side, in every mask of logits [N, M, s, s], which are changed."""
    sign = ((labels == FOREGROUND).float() - (labels == BACKGROUND).float())[:, None]
    value = _values_at(logits, points[:, None], image_size)[..., 0]
    move = (sign * MARGIN - BEYOND * value).where(sign * value < MARGIN * sign.abs(), 0.0)
    rows = move.any(1).nonzero()[:, 0]
    if len(rows):
        spread = _spread(sign[rows, :, None, None] * logits[rows] > 0, points[rows], image_size)
        logits[rows] += move[rows, :, None, None] * spread


def _spread(own: Tensor, points: Tensor, image_size: int) -> Tensor:
    """How much of what one click [N, 2] moves each cell of masks does: float [N, M, s, s], 1 at the click.

    own: bool [N, M, s, s], which cells are on the click's side already.
    """
    side = own.shape[-1]
    squares = _squares(points, side, image_size)
    reach = squares.where(own, torch.inf).amin((-2, -1), keepdim=True).sqrt().clamp(NEAR, max(NEAR, FAR * side))
    spread = torch.exp(-0.5 * squares / (WIDTH * reach) ** 2)
    return spread / _values_at(spread, points[:, None], image_size)[..., None]


def _squares(points: Tensor, side: int, image_size: int) -> Tensor:
    """Squared distances [N, 1, s, s] of cells' centres from points [N, 2], in cells."""
    away = torch.arange(side, device=points.device) + 0.5 - (points * (side / image_size))[..., None]
    across, down = away[:, None, None, 0], away[:, None, None, 1]
    return across**2 + down.transpose(-1, -2) ** 2


def _values_at(logits: Tensor, points: Tensor, image_size: int) -> Tensor:
    """Logits [N, M, s, s] at points [N, P, 2] between cells, beyond the outermost centres theirs: [N, M, P]."""
    grid = points[:, None] * (2 / image_size) - 1
    return grid_sample(logits, grid, padding_mode="border", align_corners=False)[:, :, 0]
