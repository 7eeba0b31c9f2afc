"""Greedy non-maximum suppression on a device, of boxes in many groups at once: `nms` in each of them."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024
"""Boxes whose mutual overlaps are held at a time, as BLOCK by BLOCK, and BLOCK by all that follow."""


def nms_in_groups(boxes: Tensor, scores: Tensor, groups: Tensor, *, threshold: float) -> Tensor:
    """Positions int64 [K] of the boxes that stay, group by group, the best first.

    boxes: int64 [N, 4] x0 y0 x1 y1. scores: float32 [N]; of equal scores the earlier is the better. groups: int64 [N];
    boxes of different groups do not meet. Blocks of boxes, the best first, are settled one after the other: inside a
    block by repetition until nothing changes, which takes as many rounds as the longest chain of suppressions.
    """
    order = torch.argsort(-scores.float(), stable=True)
    order = order[torch.argsort(groups[order], stable=True)]
    corners, group = boxes[order].float(), groups[order]
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for start in range(0, len(order), BLOCK):
        here, rest = slice(start, start + BLOCK), slice(start + BLOCK, None)
        alive[here] = _greedy(_overlaps(corners[here], corners[here], group[here], group[here], threshold), alive[here])
        beaten = _overlaps(corners[here], corners[rest], group[here], group[rest], threshold) & alive[here, None]
        alive[rest] &= ~beaten.any(dim=0)
    return order[alive]


def _greedy(overlaps: Tensor, alive: Tensor) -> Tensor:
    """Which of B boxes, the best first, stay: bool [B], of overlaps [B, B] and those that are alive so far.

    A box stays if no better one that stays overlaps it. Applied to any guess, this rule settles at least one more box
    for good, in order; so its only fixed point is the greedy result.
    """
    better = overlaps.triu(diagonal=1) & alive[:, None]
    stays = alive
    while True:
        following = alive & ~(better & stays[:, None]).any(dim=0)
        if torch.equal(following, stays):
            return stays
        stays = following


def _overlaps(a: Tensor, b: Tensor, group_a: Tensor, group_b: Tensor, threshold: float) -> Tensor:
    """Whether float32 boxes [A, 4] and [B, 4] of one group have an IoU above the threshold: bool [A, B].

    In float32, then widened, as in `nms`; NaN, where neither has area, is no overlap.
    """
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    intersection = sides.clamp(min=0).prod(dim=2)
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    iou = intersection / (area_a[:, None] + area_b - intersection)
    return (iou.double() > threshold) & (group_a[:, None] == group_b)
